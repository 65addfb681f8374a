"""Envelopes in a CyborgDB keystore folder.

PATH/_catalog/config/<key>    the records, where CyborgDB 0.18 keeps them
PATH/_kekd/tmp/<number>/      files being written, in one folder per writing thread
PATH/_kekd/locks/<number>     lock files; the one of a record is held during each write, and lists
                              the writes of the last minute (see write_ledger)
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
from kekd_server.model.descriptor import close_quietly
from kekd_server.model.errors import (
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    EtagMismatchError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from kekd_server.model.folder import sync_folder
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable, layout
from kekd_server.storage.disk.folder_keys import FolderKeys
from kekd_server.storage.disk.idempotent_write import IdempotentWrite
from kekd_server.storage.disk.record_cache import RecordCache
from kekd_server.storage.driver import PROBE_BYTES, NameRange, StoredRecord, WriteResult
from kekd_server.storage.etag import etag_of
from kekd_server.storage.sorted_keys import names_in_order
from kekd_server.storage.write_attempt import WriteAttempt

_LOCKS: Final = 256
_LOCK_TIMEOUT: Final = 5.0
_MAX_LOCK_RETRY_INTERVAL: Final = 0.002
_KEY_OVERHEAD_BYTES: Final = 60
"""What a cached key takes besides its text."""
_MAX_LISTING_BYTES: Final = 192 * 2**20
"""Keys of running listings: enough for two million envelopes in all."""

_TRANSIENT_ERRORS: Final = {
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
"""Errors that may be gone at the next try. Any other needs the operator."""

_log = logging.getLogger(__name__)


class DiskDriver:
    """A folder with one file per envelope, shared by any number of processes.

    Between kekd daemons every method is atomic. A create uses link(2), which fails if the file
    exists. Every write holds a lock, so that no daemon writes between the check of an etag and the
    replacement of the file, and so that every daemon recognizes the attempts of one write.

    CyborgDB takes no lock, and creates with a check followed by a rename. If CyborgDB and kekd
    write the same envelope within a few microseconds, one of the writes can be lost. Let only one
    of them write.
    """

    recognizes_attempts = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self._records = root / layout.RECORDS
        self._temporary = root / layout.TEMPORARY
        self._locks = root / layout.LOCKS
        self._prefix = f"{self._records}/"
        self.cache = RecordCache()
        self._translate_os_errors = _OsErrorTranslator(root, self._records)
        self._folder_keys = FolderKeys(self._records)
        self._listings = BoundedCache[tuple[str, tuple[str, ...]], _Listing](
            max_bytes=_MAX_LISTING_BYTES
        )
        self._listings_lock = threading.Lock()
        self._thread_folder = _ThreadFolder(self._temporary, count())

    def open(self, *, create: bool = False) -> bool:
        with self._translate_os_errors:
            is_new = layout.open_keystore(self._root, create=create)
            _remove_abandoned(self._temporary)
        return is_new

    def check(self) -> None:
        """Calls stat(2) on the folder, which may succeed from memory while the disk fails."""
        with self._translate_os_errors:
            os.stat(self._records)
        # kekd's folders are missing after a copy replaced the keystore, or if kekd started on a
        # disk that can't be written. `check_writes` reports the reason.
        with suppress(OSError):
            layout.restore(self._root)

    def check_writes(self) -> None:
        """Probes a disk without room for a record, even if no write has failed yet."""
        with self._translate_os_errors:
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
        with self._translate_os_errors:
            durable.probe(self._thread_folder.path, PROBE_BYTES)

    def get(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord:
        with self._translate_os_errors:
            stored = self._read(name, bypass_cache=bypass_cache)
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
        with self._translate_os_errors, self._write(name, attempt) as write:
            if earlier := self._find_earlier(write, written.etag):
                return earlier.etag
            try:
                durable.create(
                    self._path(name), record, self._thread_folder.path, write.commit(written)
                )
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
        with self._translate_os_errors, self._write(name, attempt) as write:
            if earlier := self._find_earlier(write, etag):
                return earlier
            if if_etag is not None:
                self._check_etag(name, self._read(name), if_etag)
            written = WriteResult(etag, if_etag or self._etag(name))
            durable.replace(
                self._path(name), record, self._thread_folder.path, write.commit(written)
            )
        return written

    def delete(
        self, name: IndexName, *, if_etag: str | None, attempt: WriteAttempt | None = None
    ) -> str | None:
        with self._translate_os_errors, self._write(name, attempt) as write:
            earlier = write.find_previous_result("", self._stored_etag)
            stored = None if earlier else self._read(name)
            if stored is None:
                # An earlier delete may have failed or been killed before it was on disk.
                sync_folder(self._records)
                if earlier:
                    return earlier.previous_etag
                write.record_no_change()
                return None
            if if_etag is not None:
                self._check_etag(name, stored, if_etag)
            durable.remove(self._path(name), write.commit(WriteResult("", stored.etag)))
        return stored.etag

    def list(
        self, names: NameRange, after: IndexName | None, limit: int, *, listing: str
    ) -> list[IndexName]:
        """Finds the keys of the range once per listing, caches them, and takes pages from them.

        That reads the folder if it has changed since the last time, which takes some 0.5 s for a
        million envelopes; a range of single names needs no such read. The keys are cached until the
        last page, or until other listings take their place. Then, and at another daemon, they are
        read again.
        """
        keys = self._keys(listing, names)
        page = list(islice(names_in_order(keys, names, after), limit))
        if len(page) < limit:
            with self._listings_lock:
                self._listings.drop((listing, names.prefixes))
        return page

    @property
    def records(self) -> Path:
        """The folder of the records. Every file in it whose name is a key is an envelope."""
        return self._records

    def close(self) -> None:
        self._listings = BoundedCache(max_bytes=0)

    def _path(self, name: IndexName) -> Path:
        return self._records / name.key

    @staticmethod
    def _acquire(lock: int, path: Path) -> None:
        """Waits for a limited time: otherwise, one process that is stopped during a write would
        block all threads of every daemon.
        """
        end = time.monotonic() + _LOCK_TIMEOUT
        while time.monotonic() < end:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(random.uniform(0, _MAX_LOCK_RETRY_INTERVAL))  # noqa: S311  (no secret)
            else:
                return
        raise StoreTimeoutError(
            f"the write timed out: another process has held the lock {path} for"
            f" {_LOCK_TIMEOUT:g} s; find it with fuser(1) and check whether it is stopped"
        )

    def _read(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord | None:
        path = self._prefix + name.key
        try:
            return self.cache.read_uncached(path) if bypass_cache else self.cache.read(path)
        except FileNotFoundError:
            # If the folder is missing too, that is an error of the store, and not "not found".
            os.stat(self._records)
            # A dangling symlink takes the name, and counts as a corrupt record.
            return StoredRecord(b"", etag_of(b"")) if os.path.islink(path) else None

    def _etag(self, name: IndexName) -> str | None:
        """None also for an unreadable file, so that a push can repair it."""
        try:
            return self._stored_etag(name)
        except OSError:
            return None

    def _stored_etag(self, name: IndexName) -> str | None:
        stored = self._read(name)
        return stored.etag if stored else None

    def _find_earlier(self, write: IdempotentWrite, etag: str) -> WriteResult | None:
        """Returns the result of an earlier attempt after an fsync, as the daemon that applied it
        may have died before its own.
        """
        earlier = write.find_previous_result(etag, self._stored_etag)
        if earlier:
            sync_folder(self._records)
        return earlier

    @staticmethod
    def _check_etag(name: IndexName, stored: StoredRecord | None, if_etag: str) -> None:
        if stored is None or stored.etag != if_etag:
            raise EtagMismatchError(name.value)

    def _keys(self, listing: str, names: NameRange) -> Sequence[str]:
        cached = self._listings.get((listing, names.prefixes))
        if cached is None:
            with self._translate_os_errors:
                keys = self._read_keys(names)
            texts = (listing, *names.prefixes, *keys)
            size = entry_bytes() + sum(map(len, texts)) + _KEY_OVERHEAD_BYTES * len(texts)
            cached = _Listing(keys, size)
        with self._listings_lock:
            self._listings.put((listing, names.prefixes), cached, size=cached.size)  # as the newest
        return cached.keys

    def _read_keys(self, names: NameRange) -> Sequence[str]:
        if names.is_exact:
            os.stat(self._records)  # a missing folder is an error, and not an empty listing
            return [key for key in names.prefixes if os.path.lexists(self._prefix + key)]
        return self._folder_keys.starting_with(names.prefixes)

    @contextmanager
    def _write(self, name: IndexName, attempt: WriteAttempt | None) -> Iterator[IdempotentWrite]:
        """Locks this name (and the few others that share its lock) for all kekd daemons."""
        path = self._locks / str(crc32(name.key.encode()) % _LOCKS)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(lock, path)
            with IdempotentWrite(lock, name, attempt or WriteAttempt.single()) as write:
                yield write
        finally:
            close_quietly(lock)


class _Listing(NamedTuple):
    keys: Sequence[str]
    size: int


class _ThreadFolder(threading.local):
    """A temporary folder for each thread. The kernel lets only one thread at a time create or
    remove files in a folder, and the others spin: in a shared folder, pushes from 16 threads took
    three times as long.
    """

    def __init__(self, temporary: Path, numbers: Iterator[int]) -> None:
        self._path = temporary / str(next(numbers))

    @property
    def path(self) -> Path:
        # Created at each use, as it may have been deleted. Its parents aren't: if they are missing,
        # the keystore is damaged, and that has to be reported.
        self._path.mkdir(mode=0o700, exist_ok=True)
        return self._path


def _remove_abandoned(temporary: Path) -> None:
    """Logs the files that can't be removed: they don't prevent the start."""
    # The folder is missing in a keystore of CyborgDB on a disk that can't be written.
    for folder in temporary.iterdir() if temporary.exists() else ():
        try:
            durable.remove_abandoned(folder)
        except OSError as error:
            _log.warning("temporary files in %s cannot be removed: %s", folder, error.strerror)


class _OsErrorTranslator:
    """Translates an OSError into an error of the store. A class, as a generator takes longer than
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
                error = failure  # for example, the disk is full
            else:
                raise StoreUnavailableError(
                    f"the folder {self._root / '_kekd'} was missing: kekd created it again; retry"
                ) from error
        if isinstance(error, FileNotFoundError):
            raise StoreMisconfiguredError(
                f"the folder {self._root} is missing: its volume may not be mounted; mount it"
            ) from error
        if isinstance(error, OSError):
            is_transient = error.errno in _TRANSIENT_ERRORS
            kind = StoreUnavailableError if is_transient else StoreMisconfiguredError
            raise kind(f"the store at {self._root} failed: {error.strerror}") from error
