"""Envelopes in a CyborgDB keystore folder.

PATH/_catalog/config/<key>    the records, where CyborgDB 0.18 has them
PATH/_kekd/tmp/<number>/      files being written, in a folder for each thread that writes
PATH/_kekd/locks/             one of these is held while a record is written or removed; it lists
                              the writes of the last minute (write_ledger)
"""

import errno
import fcntl
import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple
from zlib import crc32

from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.errors import (
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    EtagMismatchError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable, layout
from kekd_server.storage.disk.folder_keys import FolderKeys
from kekd_server.storage.disk.record_cache import RecordCache
from kekd_server.storage.disk.recorded_write import RecordedWrite
from kekd_server.storage.driver import PROBE_BYTES, NameRange, StoredRecord, WriteResult
from kekd_server.storage.etag import etag_of
from kekd_server.storage.sorted_keys import names_in_order
from kekd_server.storage.write_attempt import WriteAttempt

_LOCKS: Final = 256
_LOCK_SECONDS: Final = 5.0
_LOCK_PAUSE_SECONDS: Final = 0.002
_KEY_BYTES: Final = 60
"""Of a kept key, apart from its text."""
_MAX_LISTING_BYTES: Final = 192 * 2**20
"""Of the keys of listings under way: those of two million envelopes, or of fewer listings."""

_PASSING: Final = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
"""Errors that may be gone at the next try; any other needs the operator."""

_log = logging.getLogger(__name__)


class DiskDriver:
    """A folder with a file for each envelope, read and written by any number of processes.

    Between kekd daemons every method is atomic: create by link(2), which fails if the name is
    taken; all writes under a lock, so that nobody writes between looking at an etag and replacing
    the file, and so that every daemon recognises the attempts of one write. CyborgDB itself takes
    no lock and creates by look-then-rename. So a write of its own that falls into the few
    microseconds between those two steps of ours, or the other way round, can be lost: let one of
    them do the writing.
    """

    recognizes_attempts = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self._records = root / layout.RECORDS
        self._temporary = root / layout.TEMPORARY
        self._locks = root / layout.LOCKS
        self._prefix = f"{self._records}/"
        self.cache = RecordCache()
        self._translated = _Translated(root, self._records)
        self._folder_keys = FolderKeys(self._records)
        self._listings = BoundedCache[tuple[str, tuple[str, ...]], _Listing](
            max_bytes=_MAX_LISTING_BYTES
        )
        self._listings_lock = threading.Lock()
        self._own = _OwnFolder(self._temporary, count())

    def open(self, *, create: bool = False) -> bool:
        with self._translated:
            is_new = layout.open_keystore(self._root, create=create)
            _remove_abandoned(self._temporary)
        return is_new

    def check(self) -> None:
        """A look at the folder, which the kernel may answer from memory: of a disk that fails it
        needn't know.
        """
        with self._translated:
            os.stat(self._records)
        # kekd's folders are missing where a copy of the keystore took its place, or where kekd
        # started on a disk that can't be written: `check_writes` reports why.
        with suppress(OSError):
            layout.restore(self._root)

    def check_writes(self) -> None:
        """A disk without room for a record is tried, whether or not anybody wrote to it."""
        with self._translated:
            disk = os.statvfs(self._root)
            if disk.f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            layout.restore(self._root)
            for folder in (self._records, self._temporary):
                if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                    os.stat(folder)
                    raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        # Some filesystems count no inodes.
        if disk.f_bavail * disk.f_frsize < PROBE_BYTES or (disk.f_files and not disk.f_favail):
            self.probe()

    def probe(self) -> None:
        with self._translated:
            durable.probe(self._own.folder, PROBE_BYTES)

    def get(self, name: IndexName, *, once: bool = False) -> StoredRecord:
        with self._translated:
            stored = self._read(name, once=once)
        if stored is None:
            raise EnvelopeNotFoundError(name.value)
        return stored

    def get_cached(self, name: IndexName) -> StoredRecord | None:
        try:
            return self.cache.get_cached(self._prefix + name.key)
        except OSError:
            return None

    def create(self, name: IndexName, record: bytes, *, attempt: WriteAttempt | None = None) -> str:
        written = WriteResult(etag_of(record), None)
        with self._translated, self._write(name, attempt) as write:
            if earlier := self._find_earlier(write, written.etag):
                return earlier.etag
            try:
                durable.create(self._path(name), record, self._own.folder, write.applying(written))
            except FileExistsError:
                raise EnvelopeExistsError(name.value) from None
        return written.etag

    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        attempt: WriteAttempt | None = None,
    ) -> WriteResult:
        etag = etag_of(record)
        with self._translated, self._write(name, attempt) as write:
            if earlier := self._find_earlier(write, etag):
                return earlier
            if if_etag is not None:
                self._check_etag(name, self._read(name), if_etag)
            written = WriteResult(etag, if_etag or self._etag(name))
            durable.replace(self._path(name), record, self._own.folder, write.applying(written))
        return written

    def delete(
        self, name: IndexName, *, if_etag: str | None, attempt: WriteAttempt | None = None
    ) -> str | None:
        with self._translated, self._write(name, attempt) as write:
            earlier = write.find_earlier("", self._stored_etag)
            stored = None if earlier else self._read(name)
            if stored is None:
                # A delete before may have been cut short, or failed, before it was on disk.
                durable.sync_folder(self._records)
                if earlier:
                    return earlier.before
                write.add_nothing()
                return None
            if if_etag is not None:
                self._check_etag(name, stored, if_etag)
            durable.remove(self._path(name), write.applying(WriteResult("", stored.etag)))
        return stored.etag

    def list(
        self, wanted: NameRange, after: IndexName | None, limit: int, *, listing: str
    ) -> list[IndexName]:
        """Finds what is in the range once for a listing, keeps it, and cuts pages from it.

        Unless these are single names, that reads the folder if it has changed since it was read
        before, at some 0.5 s a million envelopes. What was found is kept until the last page, or
        until too many other listings were begun or continued since; after that, and at another
        daemon, it is looked for again.
        """
        keys = self._keys(listing, wanted)
        names = list(islice(names_in_order(keys, wanted, after), limit))
        if len(names) < limit:
            with self._listings_lock:
                self._listings.drop((listing, wanted.keys))
        return names

    @property
    def records(self) -> Path:
        """The folder that has a file for each envelope, and nothing else that is a key's."""
        return self._records

    def close(self) -> None:
        self._listings = BoundedCache(max_bytes=0)

    def _path(self, name: IndexName) -> Path:
        return self._records / name.key

    @staticmethod
    def _take(lock: int, path: Path) -> None:
        """Not for as long as it takes: one process that was stopped in the midst of a write would
        end up with all the threads of every daemon.
        """
        end = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < end:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(random.uniform(0, _LOCK_PAUSE_SECONDS))  # noqa: S311  (no secret)
            else:
                return
        raise StoreTimeoutError(
            f"Another process has kept {path} locked for {_LOCK_SECONDS:g} s: is it stopped?"
            " fuser(1) names it."
        )

    def _read(self, name: IndexName, *, once: bool = False) -> StoredRecord | None:
        path = self._prefix + name.key
        try:
            return self.cache.read_uncached(path) if once else self.cache.read(path)
        except FileNotFoundError:
            # No envelope, or no folder any more? Only the first is "not found".
            os.stat(self._records)
            # A link to nowhere takes the place too, and is no record.
            return StoredRecord(b"", etag_of(b"")) if os.path.islink(path) else None

    def _etag(self, name: IndexName) -> str | None:
        """None also for what can't be read: a push is how it's mended."""
        try:
            return self._stored_etag(name)
        except OSError:
            return None

    def _stored_etag(self, name: IndexName) -> str | None:
        stored = self._read(name)
        return stored.etag if stored else None

    def _find_earlier(self, write: RecordedWrite, etag: str) -> WriteResult | None:
        """The result of an earlier attempt, once it is on disk: the daemon that applied it may have
        died before its fsync.
        """
        earlier = write.find_earlier(etag, self._stored_etag)
        if earlier:
            durable.sync_folder(self._records)
        return earlier

    @staticmethod
    def _check_etag(name: IndexName, stored: StoredRecord | None, if_etag: str) -> None:
        if stored is None or stored.etag != if_etag:
            raise EtagMismatchError(name.value)

    def _keys(self, listing: str, wanted: NameRange) -> Sequence[str]:
        kept = self._listings.get((listing, wanted.keys))
        if kept is None:
            with self._translated:
                keys = self._read_keys(wanted)
            texts = (listing, *wanted.keys, *keys)
            kept = _Listing(keys, entry_bytes() + sum(map(len, texts)) + _KEY_BYTES * len(texts))
        with self._listings_lock:
            self._listings.put((listing, wanted.keys), kept, size=kept.size)  # as the youngest
        return kept.keys

    def _read_keys(self, wanted: NameRange) -> Sequence[str]:
        if wanted.is_exact:
            os.stat(self._records)  # or a folder that is gone would have none
            return [key for key in wanted.keys if os.path.lexists(self._prefix + key)]
        return self._folder_keys.starting_with(wanted.keys)

    @contextmanager
    def _write(self, name: IndexName, attempt: WriteAttempt | None) -> Iterator[RecordedWrite]:
        """Holds off every other kekd's writes of this name (and of a few others)."""
        path = self._locks / str(crc32(name.key.encode()) % _LOCKS)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(lock, path)
            with RecordedWrite(lock, name, attempt or WriteAttempt.single()) as write:
                yield write
        finally:
            durable.close_quietly(lock)


class _Listing(NamedTuple):
    keys: Sequence[str]
    size: int


class _OwnFolder(threading.local):
    """A folder of each thread's own. The kernel lets one thread at a time make or remove a file in
    a folder, and the others spin: a push from 16 threads at once took it three times as long.
    """

    def __init__(self, temporary: Path, numbers: Iterator[int]) -> None:
        self._folder = temporary / str(next(numbers))

    @property
    def folder(self) -> Path:
        # Each time, as it may be gone. Not those above it: then something else is, and has to be
        # told.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._folder


def _remove_abandoned(temporary: Path) -> None:
    """What can't be removed is no reason not to start."""
    # The folder is missing where a disk that can't be written has a keystore of CyborgDB's.
    for folder in temporary.iterdir() if temporary.exists() else ():
        try:
            durable.remove_abandoned(folder)
        except OSError as error:
            _log.warning("temporary files in %s can't be removed: %s", folder, error.strerror)


class _Translated:
    """Turns an OSError into what it means for the store. A class, as a generator takes longer than
    the rest of a get.
    """

    def __init__(self, root: Path, records: Path) -> None:
        self._root = root
        self._records = records

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, FileNotFoundError) and self._records.is_dir():
            try:
                layout.restore(self._root)
            except OSError as failure:
                error = failure  # of a disk that is full, say
            else:
                raise StoreUnavailableError(
                    f"The folder {self._root / '_kekd'} was gone, and kekd made it again: try"
                    " again."
                ) from error
        if isinstance(error, FileNotFoundError):
            raise StoreMisconfiguredError(
                f"The folder {self._root} is not there: is its volume mounted?"
            ) from error
        if isinstance(error, OSError):
            told = StoreUnavailableError if error.errno in _PASSING else StoreMisconfiguredError
            raise told(f"The store at {self._root} failed: {error.strerror}.") from error
