"""The keys and signatures that are too weak to prove anything."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_MIN_RSA_BITS: Final = 2048
_MIN_CURVE_BITS: Final = 256
_WEAK_HASHES: Final = frozenset({"md5", "sha1"})


def key_weakness(certificate: x509.Certificate) -> str | None:
    """Why the certificate's key is refused, or None."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        return f"its key is RSA-{key.key_size}: take at least RSA-{_MIN_RSA_BITS}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _MIN_CURVE_BITS:
        return f"its key is on the curve {key.curve.name}: take at least P-256"
    return None


def signature_weakness(certificate: x509.Certificate) -> str | None:
    """Why the signature under the certificate is refused, or None."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        return f"its signature can't be judged: {error}"
    if algorithm and algorithm.name in _WEAK_HASHES:
        return f"it is signed with {algorithm.name.upper()}: have it issued with SHA-256"
    return None
