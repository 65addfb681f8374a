"""What an envelope must be for kekd to store it."""

from typing import Final

from kekd_common.limits import MAX_TEXT_BYTES, MAX_VERSION, MAX_WRAPPED_KEK_BYTES
from kekd_schema import Envelope
from kekd_server.model.errors import InvalidEnvelopeError

_TEXTS: Final = ("kms_name", "key_id", "region", "key_arn", "binding")
_WRAPPING_PROVIDERS: Final = ("aws", "aws-kms")


def check(envelope: Envelope) -> None:
    """Raises `InvalidEnvelopeError`, naming every rule that the envelope breaks."""
    problems = []
    if envelope.provider in _WRAPPING_PROVIDERS:
        if not envelope.key_id:
            problems.append(f"provider '{envelope.provider}' needs a key_id")
        if not envelope.wrapped_kek:
            problems.append(f"provider '{envelope.provider}' needs a wrapped_kek")
    elif envelope.provider != "none":
        problems.append("provider must be 'aws', 'aws-kms' or 'none'")
    elif envelope.wrapped_kek:
        problems.append("provider 'none' takes no wrapped_kek: its callers bring the key")
    if len(envelope.wrapped_kek) > MAX_WRAPPED_KEK_BYTES:
        problems.append(
            f"wrapped_kek has {len(envelope.wrapped_kek)} bytes,"
            f" and {MAX_WRAPPED_KEK_BYTES} is the most that KMS unwraps"
        )
    problems += [
        f"{name} has {size} bytes, and {MAX_TEXT_BYTES} is the most"
        for name in _TEXTS
        if (size := len(getattr(envelope, name).encode())) > MAX_TEXT_BYTES
    ]
    if not 1 <= envelope.version <= MAX_VERSION:
        problems.append(f"version must be from 1 to {MAX_VERSION}")
    if problems:
        raise InvalidEnvelopeError(problems)
