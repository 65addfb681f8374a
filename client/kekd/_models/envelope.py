"""The envelope of an index, with the shape of cyborgdb_core 0.18."""

from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from kekd.errors import EnvelopeError


@dataclass(slots=True)
class KMSBlob:
    """The envelope of an index: its wrapped key-encryption key (KEK) and how to unwrap that.

    Mutable, and compared by value. The repr omits the wrapped KEK.
    """

    kms_name: str = ""
    """Name of a slot in the caller's KMS registry."""
    provider: str = ""
    """`aws`, `aws-kms` or `none`."""
    key_id: str = ""
    """Key id, ARN, alias or secret id, depending on the provider."""
    region: str = ""
    wrapped_kek: bytes = field(default=b"", repr=False)
    """The KEK, encrypted by the provider: at most 6144 bytes. Empty for provider `none`."""
    version: int = 1
    """1 to 2**32 - 1. Increment it at each rotation."""
    created_at: int = 0
    """Seconds since the Unix epoch, or 0 if unknown."""
    key_arn: str = field(default="", kw_only=True)
    """ARN of the KMS key that wrapped the KEK, if `key_id` is an alias."""
    binding: str = field(default="", kw_only=True)
    """The encryption context of the wrapped KEK, as JSON. Empty if the slot uses none."""
    etag: str = field(default="", init=False, compare=False)
    """Etag of the stored envelope. Pass it as `if_etag` when you push the envelope back. Empty
    unless the envelope was read from a daemon. Not part of the value."""
    store: str = field(default="", init=False, compare=False)
    """The daemon's name for the store of the envelope. Not part of the value either."""


class EnvelopeLike(Protocol):
    """Any object with these attributes, such as `kekd.KMSBlob` or `cyborgdb_core.KMSBlob`.

    `key_arn` and `binding` are optional.
    """

    kms_name: str
    provider: str
    key_id: str
    region: str
    wrapped_kek: bytes
    version: int
    created_at: int


GetResult: TypeAlias = tuple[str, KMSBlob | EnvelopeError]
"""An index name, and its envelope or the exception of a get."""

Push: TypeAlias = tuple[str, EnvelopeLike, str | None]
"""An index name, its new envelope, and the etag of the one to replace, or None for any."""

PushResult: TypeAlias = tuple[str, str | EnvelopeError]
"""An index name, and the etag of its new envelope or the exception of a push."""
