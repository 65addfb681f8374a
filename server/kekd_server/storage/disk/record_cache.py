"""Caches the records of files until the files change."""

import os
import threading
import time
from typing import Final, NamedTuple

from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.descriptor import close_quietly
from kekd_server.storage.disk.page_cache import open_if_cached, read_if_cached
from kekd_server.storage.disk.timestamps import is_settled
from kekd_server.storage.driver import MAX_RECORD_BYTES, StoredRecord
from kekd_server.storage.etag import etag_of

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK, as opening a FIFO would block."""
_CHUNK_BYTES: Final = 16 * 1024
"""Nearly every record is shorter. Allocating a buffer for the longest takes several times as long
as the read, because the kernel maps and unmaps it each time."""
_MAX_CACHE_BYTES: Final = 32 * 2**20
"""About 30,000 records."""
_MAX_CACHED_BYTES: Final = 2048
"""Nearly every record is shorter. Longer ones aren't cached, as a few would fill the memory."""


class RecordCache:
    """Reads files, and calls only stat(2) for those that it has cached.

    It never serves stale content, whichever process writes the files, with whichever system call. A
    record is cached with the stamp of its file: device, inode, size, and the times of modification
    (mtime) and of change (ctime). It is served only while the path still has that stamp. Then it is
    what a read would return:

    - The kernel sets ctime to its own clock whenever a system call writes, truncates, renames or
      links a file, and no process can set it to another value. So a change after the read either
      made the path another inode, or set a ctime that isn't older than the read. That holds even
      if the number of the inode was freed and used again.
    - The cached stamp is older than the read by more than the clock's coarsest tick: a file that
      changed within the last two seconds is read, but not cached. Otherwise a second change in the
      same tick could leave the stamp unchanged; git calls such entries racily clean
      (https://git-scm.com/docs/racy-git). The margin also covers a running write(2), which sets the
      times before it copies.
    - The stamp is taken from the open file after the read, so that it belongs to the content.
    - stat(2) returns the current state only on a disk of this machine. A network filesystem may
      answer from a cache of its own. It has no block device, so its major number is 0, and its
      files are not cached.

    Two cases remain. The clock is set back, and a later write sets the same ctime to the
    nanosecond, in the same inode, with a record of the same size. Or a process writes through
    mmap(2), which doesn't change the times if the page is dirty already; CyborgDB doesn't do that.
    """

    def __init__(self) -> None:
        self._cached = BoundedCache[str, _CachedRecord](max_bytes=_MAX_CACHE_BYTES)
        self._lock = threading.Lock()
        """Held to change the cache: several threads read."""
        # Plain ints, as a get has no time for more. Concurrent increments may be lost.
        self.hits = 0
        self.misses = 0

    def get_cached(self, path: str) -> StoredRecord | None:
        """Returns the content of the file if that needs no wait for the disk; otherwise None.
        Raises OSError.
        """
        if (cached := self._find(path)) is not None:
            return cached
        now = time.time_ns()
        file = open_if_cached(path)
        if file is None:
            return None
        try:
            record = read_if_cached(file, _CHUNK_BYTES)
            if record is None:
                return None
            self.misses += 1
            return self._add(path, file, record, now)
        finally:
            close_quietly(file)

    def read(self, path: str) -> StoredRecord:
        """Returns the content of the file; empty if it is a folder. Raises OSError."""
        if (cached := self._find(path)) is not None:
            return cached
        self.misses += 1
        return self._read_and_add(path)

    def read_without_eviction(self, path: str) -> StoredRecord:
        """Like `read`, but drops nothing from the cache: a full scan would evict everything else.
        Doesn't count as a lookup.
        """
        cached = self._cached.get(path)
        if cached is not None and _stamp(os.stat(path)) == cached.stamp:
            return cached.stored
        return self._read_and_add(path, evict=False)

    def drop(self, path: str) -> None:
        """Forgets the content of a file."""
        with self._lock:
            self._cached.drop(path)

    def confirm(self, path: str, stored: StoredRecord) -> bool:
        """Returns whether `get_cached` would return this object from the cache. Counts a hit if so,
        and nothing if not. Raises OSError.
        """
        if not self.is_unchanged(path, stored):
            return False
        self.hits += 1
        return True

    def is_unchanged(self, path: str, stored: StoredRecord) -> bool:
        """Like `confirm`, but counts nothing."""
        cached = self._cached.get(path)
        return (
            cached is not None and cached.stored is stored and _stamp(os.stat(path)) == cached.stamp
        )

    def _find(self, path: str) -> StoredRecord | None:
        """Doesn't wait for the disk: the kernel has the inode in memory since the last read."""
        cached = self._cached.get(path)
        if cached is not None and _stamp(os.stat(path)) == cached.stamp:
            self.hits += 1
            return cached.stored
        return None

    def _read_and_add(self, path: str, *, evict: bool = True) -> StoredRecord:
        now = time.time_ns()
        file = os.open(path, _READ)
        try:
            return self._add(path, file, _read(file), now, evict=evict)
        finally:
            close_quietly(file)

    def _add(
        self, path: str, file: int, record: bytes, now: int, *, evict: bool = True
    ) -> StoredRecord:
        """`now` is a time before the read; the stamp is taken after it. `evict`: whether others may
        be dropped to have room.
        """
        stat = os.fstat(file)
        etag = etag_of(record)
        size = entry_bytes(path, record, etag)
        is_cached = (
            is_settled(stat, now)
            and 0 < len(record) <= _MAX_CACHED_BYTES
            and (evict or self._cached.has_room(size))
        )
        stored = StoredRecord(record, etag, is_cached=is_cached)
        if is_cached:
            cached = _CachedRecord(_stamp(stat), stored)
            with self._lock:
                self._cached.put(path, cached, size=size)
        return stored


class _CachedRecord(NamedTuple):
    stamp: tuple[int, ...]
    stored: StoredRecord


def _stamp(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def read_file(path: str) -> StoredRecord:
    """Returns the content of a file; empty if it is a folder. Raises OSError."""
    file = os.open(path, _READ)
    try:
        record = _read(file)
    finally:
        close_quietly(file)
    return StoredRecord(record, etag_of(record))


def _read(file: int) -> bytes:
    """Reads to the end of the file. One read(2) may return less: before a page that the disk fails
    to deliver, it returns a part, and only the next call returns the error.
    """
    record = b""
    try:
        while len(record) < MAX_RECORD_BYTES and (part := os.read(file, _CHUNK_BYTES)):
            record += part
    except IsADirectoryError:
        pass  # it takes the name, and counts as a corrupt record
    return record
