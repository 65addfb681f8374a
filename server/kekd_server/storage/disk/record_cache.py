"""Caches the records of files until the files change."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final

from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.descriptor import close_quietly
from kekd_server.storage.disk.page_cache import open_if_cached, read_if_cached
from kekd_server.storage.disk.timestamps import is_settled
from kekd_server.storage.driver import MAX_RECORD_BYTES, StoredRecord
from kekd_server.storage.etag import etag_of

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK, as opening a FIFO would block."""
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK_BYTES: Final = 16 * 1024
"""Nearly every record is shorter. Allocating a buffer for the longest takes several times as long
as the read, because the kernel maps and unmaps it each time."""
_MAX_CACHE_BYTES: Final = 32 * 2**20
"""About 30,000 records."""
_MAX_CACHED_BYTES: Final = 2048
"""Nearly every record is shorter. Longer ones aren't cached, as a few would fill the memory."""

_pack_stamp: Final = Struct("=QQqqq").pack
"""Bytes, as they take a third of the memory of a tuple of these numbers."""


class RecordCache:
    """Reads the files of a folder, and calls only stat(2) for those that it has cached.

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

    def __init__(self, folder: Path) -> None:
        self._folder = f"{folder}/"
        self._folder_bytes = os.fsencode(self._folder)
        self._cached = BoundedCache[str, StoredRecord](max_bytes=_MAX_CACHE_BYTES)
        self._lock = threading.Lock()
        """Held to change the cache: several threads read."""
        # Plain ints, as a get has no time for more. Concurrent increments may be lost.
        self.hits = 0
        self.misses = 0

    def get_cached(self, key: str) -> StoredRecord | None:
        """Returns the content of the file if that needs no wait for the disk; otherwise None.
        Raises OSError.
        """
        if (cached := self._find(key)) is not None:
            self.hits += 1
            return cached
        now = time.time_ns()
        file = open_if_cached(self._folder_bytes + key.encode())
        if file is None:
            return None
        try:
            found = read_if_cached(file, _CHUNK_BYTES)
            if found is None:
                return None
            self.misses += 1
            return self._add(key, *found, now)
        finally:
            close_quietly(file)

    def read(self, key: str) -> StoredRecord:
        """Returns the content of the file; empty if it is a folder. Raises OSError."""
        if (cached := self._find(key)) is not None:
            self.hits += 1
            return cached
        self.misses += 1
        return self._read_and_add(key)

    def read_without_eviction(self, key: str) -> StoredRecord:
        """Like `read`, but drops nothing from the cache: a full scan would evict everything else.
        Doesn't count as a lookup.
        """
        return self._find(key) or self._read_and_add(key, evict=False)

    def drop(self, key: str) -> None:
        """Forgets the content of a file."""
        with self._lock:
            self._cached.drop(key)

    def confirm(self, key: str, stamp: bytes) -> bool:
        """Returns whether a file still has the stamp of a record (`StoredRecord.proof`), and so its
        content, even if the cache no longer has it. Counts a hit if so, and nothing if not.
        """
        try:
            is_unchanged = _stamp(os.stat(self._folder + key)) == stamp
        except OSError:
            return False
        self.hits += is_unchanged
        return is_unchanged

    def confirm_all(self, keys: Sequence[str], stamps: Sequence[bytes | None]) -> list[bool]:
        """Returns for each file whether it still has its stamp. Doesn't count as lookups.

        Finds the folder once: that saves a fifth of each stat(2). If another folder takes its path
        meanwhile, the result is that of an earlier call.
        """
        stat = os.stat
        confirmed: list[bool] = []
        try:
            folder = os.open(self._folder, _FOLDER)
        except OSError:
            return [False] * len(keys)
        try:
            for key, stamp in zip(keys, stamps, strict=True):
                try:
                    confirmed.append(
                        stamp is not None and _stamp(stat(key, dir_fd=folder)) == stamp
                    )
                except OSError:
                    confirmed.append(False)
        finally:
            close_quietly(folder)
        return confirmed

    def _find(self, key: str) -> StoredRecord | None:
        """Doesn't wait for the disk: the kernel has the inode in memory since the last read."""
        cached = self._cached.get(key)
        if cached is not None and _stamp(os.stat(self._folder + key)) == cached.proof:
            return cached
        return None

    def _read_and_add(self, key: str, *, evict: bool = True) -> StoredRecord:
        now = time.time_ns()
        file = os.open(self._folder + key, _READ)
        try:
            return self._add(key, *_read(file), now, evict=evict)
        finally:
            close_quietly(file)

    def _add(
        self, key: str, record: bytes, stat: os.stat_result, now: int, *, evict: bool = True
    ) -> StoredRecord:
        """`now` is a time before the read; `stat` was called after it. `evict`: whether others may
        be dropped to make room.
        """
        etag = etag_of(record)
        size = entry_bytes(key, record, etag)
        is_cached = (
            is_settled(stat, now)
            and 0 < len(record) <= _MAX_CACHED_BYTES
            and (evict or self._cached.has_room(size))
        )
        stored = StoredRecord(record, etag, proof=_stamp(stat) if is_cached else None)
        if is_cached:
            with self._lock:
                self._cached.put(key, stored, size=size)
        return stored


def _stamp(stat: os.stat_result) -> bytes:
    return _pack_stamp(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def read_file(path: str) -> StoredRecord:
    """Returns the content of a file; empty if it is a folder. Raises OSError."""
    file = os.open(path, _READ)
    try:
        record, _ = _read(file)
    finally:
        close_quietly(file)
    return StoredRecord(record, etag_of(record))


def _read(file: int) -> tuple[bytes, os.stat_result]:
    """Reads to the end of the file. Returns the content, and the status after that.

    One read(2) may return less: before a page that the disk fails to deliver, it returns a part,
    and only the next call returns the error. A file of the size that was read needs no other call.
    """
    record = b""
    try:
        while part := os.read(file, _CHUNK_BYTES):
            record += part
            stat = os.fstat(file)
            if len(record) == stat.st_size or len(record) >= MAX_RECORD_BYTES:
                return record, stat
    except IsADirectoryError:
        pass  # it takes the name, and counts as a corrupt record
    return record, os.fstat(file)
