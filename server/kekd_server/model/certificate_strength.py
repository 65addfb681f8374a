"""Rejects certificates whose keys or signatures are too weak."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_MIN_RSA_BITS: Final = 2048
_MIN_CURVE_BITS: Final = 256
_WEAK_HASHES: Final = frozenset({"md5", "sha1"})


def key_weakness(certificate: x509.Certificate) -> str | None:
    """Returns why the certificate's key is too weak, or None."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        return f"its key is RSA-{key.key_size}; use at least RSA-{_MIN_RSA_BITS}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _MIN_CURVE_BITS:
        return f"its key is on the curve {key.curve.name}; use at least P-256"
    return None


def signature_weakness(certificate: x509.Certificate) -> str | None:
    """Returns why the certificate's signature is too weak, or None."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        return f"its signature algorithm is not supported: {error}"
    if algorithm and algorithm.name in _WEAK_HASHES:
        return f"it is signed with {algorithm.name.upper()}; issue it with SHA-256"
    return None
