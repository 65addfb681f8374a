"""The keys in a folder of records, kept while the folder stays as it is."""

import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

_RACY_NS: Final = 2_000_000_000
"""As for records (record_cache.py): what changed since may change again in the same tick."""
_MAX_KEPT_KEYS: Final = 250_000
"""Of some 100 bytes each."""


class _CachedKey(NamedTuple):
    stamp: tuple[int, ...]
    keys: Sequence[str]
    """Sorted."""


class FolderKeys:
    """Reads a folder, and asks stat(2) alone while it hasn't changed.

    So most listings cost what they show, and not what else is in the folder. The kernel stamps a
    folder whenever a file is made, renamed or removed in it. As with records, a stamp is trusted
    only if it is older than the reading by more than a tick, and on a disk of this machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: _CachedKey | None = None

    def starting_with(self, first: tuple[str, ...]) -> Sequence[str]:
        """The keys that start with one of these, sorted. Raises OSError."""
        now = time.time_ns()
        stat = self._folder.stat()
        stamp = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
        kept = self._kept
        if kept is None or kept.stamp != stamp:
            keys = os.listdir(self._folder)  # noqa: PTH208  (a path for each takes as long again)
            settled = max(stat.st_ctime_ns, stat.st_mtime_ns) < now - _RACY_NS
            if not (settled and os.major(stat.st_dev) and len(keys) <= _MAX_KEPT_KEYS):
                self._kept = None
                return sorted(key for key in keys if key.startswith(first))
            kept = self._kept = _CachedKey(stamp, sorted(keys))
        return [key for it in first for key in _range(kept.keys, it)]


def _range(keys: Sequence[str], first: str) -> Sequence[str]:
    start = bisect_left(keys, first)
    # The last of all characters, which no key has.
    return keys[start : bisect_left(keys, f"{first}\U0010ffff", start)]
