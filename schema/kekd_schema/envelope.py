"""The envelope as a value object."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """How the key-encryption key (KEK) of one index is wrapped.

    Accepts all values that CyborgDB can store, so that kekd can read its records. The server
    validates envelopes that are to be written.

    The repr omits the wrapped KEK, so that it can't reach a log by accident.
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
