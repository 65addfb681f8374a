"""What the histories of all records of a bucket share."""

import threading
import time
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.index_name import IndexName
from kekd_server.storage.history.failures import HistoryFailures
from kekd_server.storage.history.retention import Retention, V
from kekd_server.storage.history.version_file import VersionFile
from kekd_server.storage.s3.history.versioning import BucketVersioning

_MAX_KEPT_BYTES: Final = 8 << 20
_MAX_OVERFULL: Final = 10_000


class _LastKept(NamedTuple):
    file_name: str
    version_count: int | None
    """Of the versions that there are with it, if it is known."""


class HistoryState:
    def __init__(
        self, retention: Retention, versioning: BucketVersioning, failures: HistoryFailures
    ) -> None:
        self.retention = retention
        self.versioning = versioning
        self.failures = failures
        self._lock = threading.Lock()
        self._last_kept = BoundedCache[str, _LastKept](max_bytes=_MAX_KEPT_BYTES)
        self._overfull: set[IndexName] = set()

    def find_expired(self, versions: Sequence[V]) -> Sequence[V]:
        """See `Retention.find_expired`."""
        return self.retention.find_expired(versions, time.time_ns())

    def may_have_expired(self, version: V) -> bool:
        """Whether a version that another one replaced is old enough."""
        return self.retention.may_have_expired(version, time.time_ns())

    def is_kept(self, name: IndexName, file: VersionFile) -> bool:
        """Whether this daemon certainly keeps a version, which saves a request in most writes."""
        last = self._last_kept.get(name.key)
        return last is not None and last.file_name == file.name

    def count_kept(self, name: IndexName) -> int | None:
        """Returns how many versions there were when this daemon kept one; None if it isn't known.
        There may be fewer now.
        """
        last = self._last_kept.get(name.key)
        return last.version_count if last else None

    def note_kept(self, name: IndexName, file: VersionFile, count: int | None) -> None:
        """`count`: how many versions the index has with this one; None if it isn't known."""
        with self._lock:
            size = entry_bytes(name.key, file.name)
            self._last_kept.put(name.key, _LastKept(file.name, count), size=size)
        if count is not None and count > self.retention.versions:
            self.note_overfull(name)

    def note_overfull(self, name: IndexName) -> None:
        """Lets `take_overfull` return the name. The next scan finds those that are too many."""
        with self._lock:
            if len(self._overfull) < _MAX_OVERFULL:
                self._overfull.add(name)

    def forget(self, name: IndexName) -> None:
        """Call it when the versions of an index were removed."""
        with self._lock:
            self._last_kept.drop(name.key)

    def take_overfull(self) -> Collection[IndexName]:
        """Returns the names that got more versions than they may have since the last call."""
        with self._lock:
            overfull, self._overfull = self._overfull, set()
        return overfull
