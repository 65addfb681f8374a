"""When certificates end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from kekd._cli.doctor.finding import Finding, failure, ok, warning

_EARLY: Final = timedelta(days=14)
_KEYS: Final = "have it issued for RSA of 2048 bits or more, or for ECDSA on P-256 or P-384"
_MIN_RSA_BITS: Final = 2048
_RENEW: Final = "replace the files: renewed ones are taken up without a restart"


def check(name: str, file: str, expires_at: datetime, now: datetime) -> Finding:
    left = expires_at - now
    if left <= timedelta():
        return failure(name, f"{file} expired at {expires_at.isoformat()}", _RENEW)
    text = f"{file} expires in {left.days} days"
    return warning(name, text, _RENEW) if left < _EARLY else ok(name, text)


def refused(error: str) -> Finding:
    """What the daemon says of new files that it doesn't take into use."""
    advice = "correct the files: until then the daemon keeps the certificate from before"
    return failure("certificate", f"the renewed one is refused: {error}", advice)


def check_own(file: Path) -> Finding:
    """The one that this client shows to the daemon."""
    name = "own certificate"
    try:
        # Imported here, as a client needs it for nothing else.
        from cryptography import x509  # noqa: PLC0415
    except ModuleNotFoundError:
        advice = "pip install 'kekd[aws]', which has cryptography"
        return warning(name, f"nothing here can read {file}", advice)
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    if kind := _refused_key(certificate.public_key()):
        return failure(name, f"{file} has a key that daemons refuse: {kind}", _KEYS)
    now = datetime.now(UTC)
    if certificate.not_valid_before_utc > now:
        begins = certificate.not_valid_before_utc.isoformat()
        return failure(
            name, f"{file} isn't valid before {begins}", "is this machine's clock right?"
        )
    return check(name, str(file), certificate.not_valid_after_utc, now)


def _refused_key(key: object) -> str:
    """What kind of key it is, if gRPC doesn't support it or the daemon finds it too weak."""
    # Imported here, as above.
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415

    match key:
        case rsa.RSAPublicKey():
            return "" if key.key_size >= _MIN_RSA_BITS else f"RSA-{key.key_size}"
        case ec.EllipticCurvePublicKey():
            is_accepted = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
            return "" if is_accepted else f"ECDSA {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")
