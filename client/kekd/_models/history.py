"""The versions of an envelope, and what protects or destroys them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kekd._models.envelope import KMSBlob
from kekd.errors import EnvelopeError


class VersionEvent(StrEnum):
    """The cause of a version."""

    CREATED = "created"
    PUSHED = "pushed"
    RESTORED = "restored"
    UNDELETED = "undeleted"
    DELETED = "deleted"
    """The version is a deletion, and has no envelope."""
    FOUND = "found"
    """Another program than kekd wrote the envelope."""


@dataclass(frozen=True, slots=True)
class EnvelopeVersion:
    """An envelope that an index had, or the deletion of one."""

    version_id: str
    event: VersionEvent
    time: datetime
    """When it was written, or noticed if another program than kekd wrote it. Versions of an index
    have increasing times, even if a clock was set back."""
    caller: str
    """Identity of the caller that wrote it. Empty if it isn't known."""
    etag: str
    """Etag that the envelope had. Empty for a deletion."""
    size: int
    """Bytes of the stored record. 0 for a deletion."""
    blob: KMSBlob | None = None
    """The envelope, if it was requested. None for a deletion."""
    error: EnvelopeError | None = None
    """Why the envelope was requested and can't be read."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Protects an index: kekd changes neither its envelope nor its versions."""

    reason: str
    caller: str
    """Identity of the caller that placed it."""
    time: datetime


@dataclass(frozen=True, slots=True)
class DestroyedVersion:
    version_id: str
    """Empty for an envelope of a store without a history."""
    etag: str
    wrapped_kek_sha256: str
    """SHA-256 of the wrapped KEK, in hex. Empty if it had none, or its record was corrupt."""


@dataclass(frozen=True, slots=True)
class RemainingVersion:
    version_id: str
    reason: str
    """Why it is still there, and what to do."""


@dataclass(frozen=True, slots=True)
class DestructionReceipt:
    """The result of a destruction. The daemon's audit log has it too."""

    index_name: str
    store: str
    destroyed: tuple[DestroyedVersion, ...]
    """Removed by this call, newest first. Empty if there was nothing."""
    remaining: tuple[RemainingVersion, ...]
    """Still there when the daemon looked again."""
    unchecked: tuple[str, ...]
    """Places that the daemon can't see, where copies may be."""
