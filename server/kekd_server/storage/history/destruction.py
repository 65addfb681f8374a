"""What the destruction of an index's envelope removed, and what it left."""

from collections.abc import Sequence
from typing import Final, NamedTuple

UNCHECKED_COPIES: Final = (
    "backups of the store, and snapshots of its disk or bucket",
    "exports (kekctl export)",
    "replicas, such as those of S3 replication",
    "freed blocks of the disk, until they are overwritten",
    "caches of callers, until they expire",
)
"""Where kekd can't look for copies."""


class DestroyedVersion(NamedTuple):
    id: str
    """Empty for a record that was no version, as its store had no history."""
    etag: str
    wrapped_kek_digest: str
    """SHA-256 of the wrapped KEK, in hex; empty if the record is corrupt or has none."""


class RemainingVersion(NamedTuple):
    id: str
    why: str
    """Why it was not removed, and what to do."""


class Destruction(NamedTuple):
    store: str
    destroyed: Sequence[DestroyedVersion]
    """Newest first."""
    remaining: Sequence[RemainingVersion]
    """Found by a look at the store after the removal."""
