"""The rules for envelopes that kekd stores."""

from typing import Final

from kekd_common.limits import MAX_TEXT_BYTES, MAX_VERSION, MAX_WRAPPED_KEK_BYTES
from kekd_schema import TEXT_FIELDS, Envelope
from kekd_server.model.errors import InvalidEnvelopeError

_FREE_TEXT_FIELDS: Final = tuple(name for name in TEXT_FIELDS if name != "provider")
_WRAPPING_PROVIDERS: Final = ("aws", "aws-kms")


def validate_envelope(envelope: Envelope) -> None:
    """Raises `InvalidEnvelopeError`, which lists every rule that the envelope breaks."""
    problems = []
    if envelope.provider in _WRAPPING_PROVIDERS:
        if not envelope.key_id:
            problems.append(f"provider '{envelope.provider}' needs a key_id")
        if not envelope.wrapped_kek:
            problems.append(f"provider '{envelope.provider}' needs a wrapped_kek")
    elif envelope.provider != "none":
        problems.append("provider must be 'aws', 'aws-kms' or 'none'")
    elif envelope.wrapped_kek:
        problems.append("provider 'none' has no wrapped_kek: its callers supply the key")
    if len(envelope.wrapped_kek) > MAX_WRAPPED_KEK_BYTES:
        problems.append(
            f"wrapped_kek has {len(envelope.wrapped_kek)} bytes,"
            f" and the limit is {MAX_WRAPPED_KEK_BYTES}"
        )
    problems += [
        f"{name} has {size} bytes, and the limit is {MAX_TEXT_BYTES}"
        for name in _FREE_TEXT_FIELDS
        if (size := len(getattr(envelope, name).encode())) > MAX_TEXT_BYTES
    ]
    if not 1 <= envelope.version <= MAX_VERSION:
        problems.append(f"version must be from 1 to {MAX_VERSION}")
    if problems:
        raise InvalidEnvelopeError(problems)
