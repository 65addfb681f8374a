"""Envelopes in a CyborgDB keystore folder.

PATH/_catalog/config/<key>    the records, where CyborgDB 0.18 keeps them
PATH/_kekd/tmp/<number>/      files being written, in one folder per writing thread
PATH/_kekd/locks/<number>     lock files; the one of a record is held during each write, and lists
                              the writes of the last minute (see write_ledger)
PATH/_kekd/history/<key>/     the versions of a record (see history)
PATH/_kekd/holds/<key>        the hold on a record (see holds)
PATH/_kekd/destructions/<key> what a destruction removes (see destruction_marks)
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from kekd_server.model.errors import (
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    EtagMismatchError,
    HistoryUnavailableError,
    KekdError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.destruction import DestroyedVersion, Destruction
from kekd_server.storage.disk import durable, layout
from kekd_server.storage.disk.destruction_marks import DestructionMarks
from kekd_server.storage.disk.foreign_files import find_unfinished
from kekd_server.storage.disk.history import DiskHistory
from kekd_server.storage.disk.holds import DiskHolds
from kekd_server.storage.disk.idempotent_write import IdempotentWrite
from kekd_server.storage.disk.listings import Listings
from kekd_server.storage.disk.os_errors import OsErrorTranslator
from kekd_server.storage.disk.record_cache import RecordCache
from kekd_server.storage.disk.syncs import FolderSync
from kekd_server.storage.disk.temporary_folder import ThreadFolder, remove_abandoned
from kekd_server.storage.disk.write_locks import WriteLocks
from kekd_server.storage.driver import (
    PROBE_BYTES,
    HistoryStep,
    NameRange,
    StoredRecord,
    ValidateVersion,
    WriteResult,
)
from kekd_server.storage.etag import etag_of
from kekd_server.storage.history_failures import HistoryFailures
from kekd_server.storage.history_totals import HistoryTotals
from kekd_server.storage.hold import Hold
from kekd_server.storage.retention import DEFAULT_RETENTION, Retention
from kekd_server.storage.version import Origin, Version, VersionEvent
from kekd_server.storage.version_import import ImportedVersion
from kekd_server.storage.version_page import last_with_record, page_of
from kekd_server.storage.write_attempt import WriteAttempt
from kekd_server.storage.write_steps import Steps

T = TypeVar("T")


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

    def __init__(self, root: Path, retention: Retention = DEFAULT_RETENTION) -> None:
        self._root = root
        self._records = root / layout.RECORDS
        self._temporary = root / layout.TEMPORARY
        self._locks = WriteLocks(root / layout.LOCKS)
        self.history_failures = HistoryFailures(str(root))
        self._history = DiskHistory(
            root / layout.HISTORY, self._records, retention, self.history_failures
        )
        self._holds = DiskHolds(root / layout.HOLDS)
        self._destructions = DestructionMarks(root / layout.DESTRUCTIONS)
        self._prefix = f"{self._records}/"
        self._sync_earlier = FolderSync(str(self._records))
        """The pause of a write whose earlier attempt may have failed or been killed before it was
        on disk."""
        self.cache = RecordCache(self._records)
        self._translate_os_errors = OsErrorTranslator(root, self._records)
        self._listings = Listings([self._records])
        self._listings_with_deleted = Listings([self._records, root / layout.HISTORY])
        self._thread_folder = ThreadFolder(self._temporary, count())

    def open(self, *, create: bool = False) -> bool:
        with self._translate_os_errors:
            is_new = layout.open_keystore(self._root, create=create)
            remove_abandoned(self._temporary)
            self._history.check_links(self._temporary)
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
            for folder in (self._records, self._temporary, *self._history.required_folders):
                if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                    os.stat(folder)
                    raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        # Some filesystems count no inodes.
        if disk.f_bavail * disk.f_frsize < PROBE_BYTES or (disk.f_files and not disk.f_favail):
            self.probe()

    def find_limitations(self) -> str:
        with self._translate_os_errors:
            return self._history.find_limitations()

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
            return self.cache.get_cached(name.key)
        except OSError:
            return None

    def confirm(self, name: IndexName, proof: bytes) -> bool:
        return self.cache.confirm(name.key, proof)

    def confirm_all(self, names: Sequence[IndexName], proofs: Sequence[bytes | None]) -> list[bool]:
        return self.cache.confirm_all([name.key for name in names], proofs)

    def create(
        self, name: IndexName, record: bytes, *, origin: Origin, attempt: WriteAttempt | None
    ) -> Steps[str]:
        return self._write(name, attempt, lambda write: self._create(write, name, record, origin))

    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        origin: Origin,
        attempt: WriteAttempt | None,
    ) -> Steps[WriteResult]:
        return self._write(
            name, attempt, lambda write: self._put(write, name, record, if_etag, origin)
        )

    def restore(  # noqa: PLR0913
        self,
        name: IndexName,
        version_id: str,
        *,
        validate: ValidateVersion,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> Steps[WriteResult]:
        def restore(write: IdempotentWrite) -> Steps[WriteResult]:
            self._catch_up(name)
            stored = self._history.open(name).read(version_id)
            validate(version_id, stored)
            origin = Origin(VersionEvent.RESTORED, caller)
            return (yield from self._put(write, name, stored.record, if_etag, origin))

        return self._write(name, attempt, restore)

    def undelete(
        self,
        name: IndexName,
        *,
        validate: ValidateVersion,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> Steps[str]:
        def undelete(write: IdempotentWrite) -> Steps[str]:
            self._catch_up(name)
            history = self._history.open(name)
            last = last_with_record(history.versions(), name)
            stored = history.read(last.id)
            validate(last.id, stored)
            origin = Origin(VersionEvent.UNDELETED, caller)
            return (yield from self._create(write, name, stored.record, origin))

        return self._write(name, attempt, undelete)

    def delete(
        self, name: IndexName, *, if_etag: str | None, caller: str, attempt: WriteAttempt | None
    ) -> Steps[str | None]:
        return self._write(name, attempt, lambda write: self._delete(write, name, if_etag, caller))

    def list(
        self,
        names: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,
        show_deleted: bool = False,
    ) -> list[IndexName]:
        listings = self._listings_with_deleted if show_deleted else self._listings
        with self._translate_os_errors:
            return listings.page(listing, names, after, limit)

    def list_versions(self, name: IndexName, *, after: str, limit: int) -> Sequence[Version]:
        with self._translate_os_errors, self._locks.hold_if_writable(name) as is_writable:
            if is_writable:
                self._catch_up(name)
            versions = self._history.open(name).versions()
        return page_of(versions, name, after, limit)

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion]
    ) -> Sequence[Version]:
        with self._translate_os_errors, self._locks.hold(name):
            self._holds.require_free(name)
            return self._history.import_versions(
                name, self._etag(name), versions, self._thread_folder.path
            )

    def destroy(
        self, name: IndexName, *, if_etag: str | None, digest: Callable[[bytes], str]
    ) -> Destruction:
        with self._translate_os_errors, self._locks.hold(name):
            stored = self._read(name)
            if stored and if_etag is not None:
                self._check_etag(name, stored, if_etag)
            self._holds.require_free(name)
            self._catch_up(name)
            versions = self._history.describe(name, digest)
            if stored and stored.etag not in {version.etag for version in versions}:
                # There is no history.
                versions.insert(0, DestroyedVersion("", stored.etag, digest(stored.record)))
            marked = self._destructions.begin(name, versions, self._thread_folder.path)
            if stored:
                durable.remove(self._path(name))
                self.cache.drop(name.key)
            left, remaining = self._history.destroy(name)
            # A process that was killed may have left a copy.
            remove_abandoned(self._temporary)
            self._destructions.end(name)
        with self._translate_os_errors:
            remaining += find_unfinished(self._records, name)
        destroyed = [version for version in marked if version.id not in left]
        return Destruction("", destroyed, remaining)

    def find_hold(self, name: IndexName) -> Hold | None:
        with self._translate_os_errors:
            return self._holds.find(name)

    def hold(self, name: IndexName, hold: Hold) -> None:
        with self._translate_os_errors, self._locks.hold(name):
            held = hold._replace(etag=self._etag(name) or "")
            self._holds.add(name, held, self._thread_folder.path)

    def release(self, name: IndexName) -> bool:
        with self._translate_os_errors, self._locks.hold(name):
            return self._holds.remove(name)

    def notice_change(self, name: IndexName) -> bool:
        with self._translate_os_errors:
            if self._history.find_own_write(name) is not None:
                return False
            if not self._history.is_settled(name):
                with self._locks.hold(name):
                    self._history.catch_up(name, self._etag(name))
            return self._is_breached(name)

    def find_own_write(self, name: IndexName) -> str | None:
        """Returns the etag of the record if this daemon certainly wrote it, and nothing wrote into
        it later. None if that is unknown.
        """
        try:
            return self._history.find_own_write(name)
        except OSError:
            return None

    def history_totals(self) -> HistoryTotals:
        return self._history.totals

    def describe_history(self) -> str:
        return self._history.retention.describe("on disk")

    def schedule_scan(self) -> None:
        self._history.schedule_scan()

    def maintain_history(self) -> Iterator[HistoryStep]:
        with self._translate_os_errors:
            if self._history.retention.is_on:
                for name in self._history.outdated_names(self._holds.is_held):
                    yield self._maintain(name) if name else 0
            else:  # it follows no changes
                for name in self._holds.names():
                    yield name if self._is_breached(name) else 0

    def get_version(self, name: IndexName, version_id: str) -> StoredRecord:
        with self._translate_os_errors, self._locks.hold_if_writable(name) as is_writable:
            if is_writable:
                self._catch_up(name)
            return self._history.open(name).read(version_id)

    @property
    def records(self) -> Path:
        """The folder of the records. Every file in it whose name is a key is an envelope."""
        return self._records

    def close(self) -> None:
        self._listings.close()
        self._listings_with_deleted.close()

    def _write(
        self,
        name: IndexName,
        attempt: WriteAttempt | None,
        write: Callable[[IdempotentWrite], Steps[T]],
    ) -> Steps[T]:
        """Holds the lock of the record during the steps."""
        with (
            self._translate_os_errors,
            (yield from self._locks.hold_steps(name)) as lock,
            IdempotentWrite(lock, name, attempt or WriteAttempt.single()) as begun,
        ):
            return (yield from write(begun))

    def _create(
        self, write: IdempotentWrite, name: IndexName, record: bytes, origin: Origin
    ) -> Steps[str]:
        written = WriteResult(etag_of(record), None)
        if earlier := write.find_previous_result(written.etag, self._stored_etag):
            yield self._sync_earlier
            return earlier.etag
        self._holds.require_free(name)
        try:
            yield from durable.create_steps(
                *(self._path(name), record, self._thread_folder.path),
                commit=write.commit(written),
                keep=self._history.keep(name, written, origin, write),
            )
        except FileExistsError:
            raise EnvelopeExistsError(name.value) from None
        return written.etag

    def _put(
        self,
        write: IdempotentWrite,
        name: IndexName,
        record: bytes,
        if_etag: str | None,
        origin: Origin,
    ) -> Steps[WriteResult]:
        etag = etag_of(record)
        if earlier := write.find_previous_result(etag, self._stored_etag):
            yield self._sync_earlier
            return earlier
        if if_etag is not None:
            self._check_etag(name, self._read(name), if_etag)
        self._holds.require_free(name)
        written = WriteResult(etag, if_etag or self._etag(name))
        yield from durable.replace_steps(
            *(self._path(name), record, self._thread_folder.path),
            commit=write.commit(written),
            keep=self._history.keep(name, written, origin, write),
        )
        return written

    def _delete(
        self, write: IdempotentWrite, name: IndexName, if_etag: str | None, caller: str
    ) -> Steps[str | None]:
        earlier = write.find_previous_result("", self._stored_etag)
        stored = None if earlier else self._read(name)
        if stored is None:
            yield self._sync_earlier
            if earlier:
                return earlier.previous_etag
            write.record_no_change()
            return None
        if if_etag is not None:
            self._check_etag(name, stored, if_etag)
        self._holds.require_free(name)
        with write.commit(WriteResult("", stored.etag)) as is_recorded:
            self._history.keep_deletion(name, stored.etag, caller, is_recorded=is_recorded)
            yield from durable.remove_steps(self._path(name))
        return stored.etag

    def _path(self, name: IndexName) -> str:
        return self._prefix + name.key

    def _read(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord | None:
        read = self.cache.read_without_eviction if bypass_cache else self.cache.read
        try:
            return read(name.key)
        except FileNotFoundError:
            # If the folder is missing too, that is an error of the store, and not "not found".
            os.stat(self._records)
            # A dangling symlink takes the name, and counts as a corrupt record.
            is_link = os.path.islink(self._path(name))
            return StoredRecord(b"", etag_of(b"")) if is_link else None

    def _maintain(self, name: IndexName) -> HistoryStep:
        try:
            with self._translate_os_errors, self._locks.hold(name):
                self._history.catch_up(name, self._etag(name))
                if not self._holds.is_held(name):
                    return self._history.prune(name)
            with self._translate_os_errors:
                return name if self._is_breached(name) else 0
        except KekdError as error:
            self.history_failures.report(error, name)
            return 0

    def _is_breached(self, name: IndexName) -> bool:
        """The etag shows a breach also after the clock was set back. The history shows one whose
        record was put back.
        """
        if not self._holds.is_held(name):
            return False
        with self._locks.hold_if_writable(name):
            hold = self._holds.find(name)
            if hold is None:
                return False
            if hold.etag is not None and hold.etag != (self._etag(name) or ""):
                return True
            return self._history.has_foreign_change(name, since_ns=hold.time_ns)

    def _catch_up(self, name: IndexName) -> None:
        """Before a read, which also succeeds on a disk that can't be written."""
        with suppress(HistoryUnavailableError):
            self._history.catch_up(name, self._etag(name))

    def _etag(self, name: IndexName) -> str | None:
        """None also for an unreadable file, so that a push can repair it."""
        try:
            return self._stored_etag(name)
        except OSError:
            return None

    def _stored_etag(self, name: IndexName) -> str | None:
        stored = self._read(name)
        return stored.etag if stored else None

    @staticmethod
    def _check_etag(name: IndexName, stored: StoredRecord | None, if_etag: str) -> None:
        if stored is None or stored.etag != if_etag:
            raise EtagMismatchError(name.value)
