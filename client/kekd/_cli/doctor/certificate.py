"""Checks when certificates expire, and whether the client's own is acceptable."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd_common.install import install_command

_EXPIRES_SOON: Final = timedelta(days=14)
_SUPPORTED_KEYS: Final = "issue it for RSA-2048 or stronger, or for ECDSA P-256 or P-384"
_MIN_RSA_BITS: Final = 2048
_RENEW: Final = "replace the files; no restart is needed"


def check(name: str, file: str, expires_at: datetime, now: datetime) -> Finding:
    remaining = expires_at - now
    if remaining <= timedelta():
        return failure(name, f"{file} expired at {expires_at.isoformat()}", _RENEW)
    text = f"{file} expires in {remaining.days} days"
    return warning(name, text, _RENEW) if remaining < _EXPIRES_SOON else ok(name, text)


def rejected(error: str) -> Finding:
    """Reports renewed files that the daemon doesn't use."""
    advice = "correct the files; until then the daemon uses the previous certificate"
    return failure("certificate", f"renewed files rejected: {error}", advice)


def check_own(file: Path) -> Finding:
    """Checks the client's certificate."""
    name = "own certificate"
    try:
        # An optional dependency.
        from cryptography import x509  # noqa: PLC0415
    except ModuleNotFoundError:
        advice = install_command("aws")
        return warning(name, f"cannot check {file}: cryptography is not installed", advice)
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    if kind := _unsupported_key(certificate.public_key()):
        return failure(name, f"{file} has an unsupported key: {kind}", _SUPPORTED_KEYS)
    now = datetime.now(UTC)
    if certificate.not_valid_before_utc > now:
        start = certificate.not_valid_before_utc.isoformat()
        return failure(name, f"{file} is not valid before {start}", "check this machine's clock")
    return check(name, str(file), certificate.not_valid_after_utc, now)


def _unsupported_key(key: object) -> str:
    """Names the kind of a key that gRPC doesn't support or that is too weak, else empty."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415

    match key:
        case rsa.RSAPublicKey():
            return "" if key.key_size >= _MIN_RSA_BITS else f"RSA-{key.key_size}"
        case ec.EllipticCurvePublicKey():
            is_supported = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
            return "" if is_supported else f"ECDSA {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")
