"""The keys in a folder of records, cached until the folder changes."""

import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from kekd_server.storage.disk.timestamps import is_settled

_MAX_CACHED_KEYS: Final = 250_000
"""Of some 100 bytes each."""


class _CachedKeys(NamedTuple):
    stamp: tuple[int, ...]
    keys: Sequence[str]
    """Sorted."""


class FolderKeys:
    """Lists a folder, and calls only stat(2) while it hasn't changed.

    So most listings cost as much as the names that they return, whatever the size of the folder.
    The kernel updates the times of a folder whenever a file is created, renamed or removed in it.
    As in `RecordCache`, a stamp is trusted only if it is older than the listing by more than a
    tick, and the folder is on a disk of this machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cached: _CachedKeys | None = None

    def starting_with(self, prefixes: tuple[str, ...]) -> Sequence[str]:
        """Returns the keys that start with one of the prefixes, sorted. Raises OSError."""
        now = time.time_ns()
        stat = self._folder.stat()
        stamp = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
        cached = self._cached
        if cached is None or cached.stamp != stamp:
            keys = os.listdir(self._folder)  # noqa: PTH208  (making paths doubles the time)
            if not (is_settled(stat, now) and len(keys) <= _MAX_CACHED_KEYS):
                self._cached = None
                return sorted(key for key in keys if key.startswith(prefixes))
            cached = self._cached = _CachedKeys(stamp, sorted(keys))
        return [key for prefix in prefixes for key in _with_prefix(cached.keys, prefix)]


def _with_prefix(keys: Sequence[str], prefix: str) -> Sequence[str]:
    start = bisect_left(keys, prefix)
    # The last Unicode character, which no key has.
    return keys[start : bisect_left(keys, f"{prefix}\U0010ffff", start)]
