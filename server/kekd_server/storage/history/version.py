"""The versions of an index's envelope that a store keeps."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class VersionEvent(StrEnum):
    """How a version came about."""

    CREATED = "created"
    PUSHED = "pushed"
    RESTORED = "restored"
    UNDELETED = "undeleted"
    DELETED = "deleted"
    FOUND = "found"
    """Another program than kekd wrote the record."""


class Origin(NamedTuple):
    """The cause of a write, which the store keeps with the version."""

    event: VersionEvent
    caller: str = ""
    """The caller's identity."""


@dataclass(frozen=True, slots=True)
class Version:
    id: str
    """Opaque, and no other version of any index has it."""
    event: VersionEvent
    time_ns: int
    """Nanoseconds since the Unix epoch. Later than that of every older version of the index, even
    if the clock was set back. For `FOUND`, and for a deletion by another program, the time when
    kekd noticed it."""
    etag: str
    """Of the record; empty for a deletion, which has none."""
    size: int
    """Bytes of the record."""
    caller: str
    """The identity of the caller that wrote it; empty if kekd doesn't know it."""

    @property
    def is_deletion(self) -> bool:
        return self.event is VersionEvent.DELETED
