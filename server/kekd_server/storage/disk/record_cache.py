"""Records of files that were read before, for as long as the files haven't changed."""

import os
import time
from typing import Final, NamedTuple

from kekd_server.storage.disk.durable import close_quietly
from kekd_server.storage.disk.page_cache import open_if_cached, read_if_cached
from kekd_server.storage.driver import MAX_RECORD_BYTES, StoredRecord
from kekd_server.storage.etag import etag_of

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Not blocking, as opening a FIFO would."""
_RACY_NS: Final = 2_000_000_000
"""The coarsest clock by which a filesystem stamps its files, FAT's."""
_CHUNK_BYTES: Final = 16 * 1024
"""Nearly every record is shorter. To make room for the longest takes several times as long as the
reading, where it is mapped and unmapped each time."""
_MOST_RECORDS: Final = 8192
_MOST_BYTES_EACH: Final = 2048
"""Nearly every record is shorter, and a few long ones shouldn't take the memory of all."""


class RecordCache:
    """Reads files, and asks stat(2) alone about those that it has read before.

    It never serves what is no longer there, whoever writes the files, by whatever system call. A
    record is kept with its file's stamp: device, inode, size, and the times of modification (mtime)
    and of change (ctime). It is served only while the path still has that stamp, and then it is
    what a read would have found:

    - The kernel sets ctime to its own clock whenever a system call writes, truncates, renames or
      links a file, and nobody can set it to anything else. So whatever changed what the path holds
      since it was read either made another inode of it, or left a ctime that isn't older than that
      read; also where the inode's number was freed and given out again.
    - The kept stamp is older than the read, by more than the clock's coarsest tick: a file that
      changed within the last two seconds is read, but not kept. Otherwise a second change in the
      same tick could leave the stamp as it was; git calls such entries racily clean
      (https://git-scm.com/docs/racy-git). The margin also covers a write(2) under way, which stamps
      first and copies then.
    - The stamp is taken of the open file and after reading it, so that it is of what was read.
    - stat(2) answers for this moment only where the files are on a disk of this machine. A network
      filesystem may answer from a cache of its own. Those have no block device, so that the major
      number of theirs is 0, and nothing of them is kept.

    What remains is a clock that was set back, and a later write that hits the old ctime to the
    nanosecond, in the same inode, with a record of the same size; and a writer that maps the file
    (mmap(2)), as what it stores in a page that is dirty already changes no time. CyborgDB doesn't.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _CachedKey] = {}
        # Plain numbers, as a get has no time for more. Of two threads at once one may be lost.
        self.hits = 0
        self.misses = 0

    def get_cached(self, path: str) -> StoredRecord | None:
        """What is in the file, if that is known without waiting for its disk; else None. Raises
        OSError.
        """
        if (kept := self._known(path)) is not None:
            return kept
        now = time.time_ns()
        file = open_if_cached(path)
        if file is None:
            return None
        try:
            record = read_if_cached(file, _CHUNK_BYTES)
            if record is None:
                return None
            return self._keep(path, file, StoredRecord(record, etag_of(record)), now)
        finally:
            close_quietly(file)

    def read(self, path: str) -> StoredRecord:
        """What is in the file; nothing, if it is a folder. Raises OSError."""
        if (kept := self._known(path)) is not None:
            return kept
        now = time.time_ns()
        file = os.open(path, _READ)
        try:
            return self._keep(path, file, _read(file), now)
        finally:
            close_quietly(file)

    def read_uncached(self, path: str) -> StoredRecord:
        """`read`, without keeping it: one that reads them all would leave nothing else kept."""
        file = os.open(path, _READ)
        try:
            return _read(file)
        finally:
            close_quietly(file)

    def _known(self, path: str) -> StoredRecord | None:
        """What stat(2) asks for is in the kernel's memory, as it was asked for before."""
        kept = self._kept.get(path)
        if kept is not None and _stamp(os.stat(path)) == kept.stamp:
            self.hits += 1
            return kept.stored
        return None

    def _keep(self, path: str, file: int, stored: StoredRecord, now: int) -> StoredRecord:
        """`now` is before anything was read, and the file is stamped after."""
        self.misses += 1
        stat = os.fstat(file)
        if (
            max(stat.st_ctime_ns, stat.st_mtime_ns) < now - _RACY_NS
            and os.major(stat.st_dev)
            and 0 < len(stored.record) <= _MOST_BYTES_EACH
        ):
            if len(self._kept) >= _MOST_RECORDS:
                self._kept.clear()  # in one step, as several threads may be here
            self._kept[path] = _CachedKey(_stamp(stat), stored)
        return stored


class _CachedKey(NamedTuple):
    stamp: tuple[int, ...]
    stored: StoredRecord


def _stamp(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _read(file: int) -> StoredRecord:
    """Reads to the end of the file, as read(2) may stop before: at a page that the disk fails to
    deliver it returns those before, and the error only at the next call.
    """
    record = b""
    try:
        while len(record) < MAX_RECORD_BYTES and (part := os.read(file, _CHUNK_BYTES)):
            record += part
    except IsADirectoryError:
        pass  # there is something, and it is no record
    return StoredRecord(record, etag_of(record))
