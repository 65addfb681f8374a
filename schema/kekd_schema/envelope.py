"""The envelope as a value."""

from dataclasses import dataclass, field, fields
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """How the key-encryption key (KEK) of one index is wrapped.

    Every record that CyborgDB can store is a valid `Envelope`, so that kekd can read it. The server
    has stricter rules for the envelopes that it stores.

    The repr doesn't contain the wrapped KEK, so that it can't reach a log by accident.
    """

    kms_name: str = ""
    provider: str = ""
    key_id: str = ""
    region: str = ""
    wrapped_kek: bytes = field(default=b"", repr=False)
    version: int = 0
    created_at: int = 0
    """Seconds since the Unix epoch, as CyborgDB Service 0.18 writes it; 0 if unknown."""
    key_arn: str = ""
    binding: str = ""


FIELDS: Final = tuple(each.name for each in fields(Envelope))
"""In the order of the record and of the message on the wire."""
TEXT_FIELDS: Final = tuple(each.name for each in fields(Envelope) if each.type is str)
VECTOR_FIELDS: Final = tuple(each.name for each in fields(Envelope) if each.type in {str, bytes})
"""The fields that the record stores as a length and bytes."""
