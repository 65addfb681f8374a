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
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from kekd_server.model.errors import EnvelopeNotFoundError, EtagMismatchError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable, layout
from kekd_server.storage.disk.foreign_files import find_unfinished
from kekd_server.storage.disk.history.destruction_marks import DestructionMarks
from kekd_server.storage.disk.history.history import DiskHistory
from kekd_server.storage.disk.history.holds import DiskHolds
from kekd_server.storage.disk.history.links import HistoryLinks
from kekd_server.storage.disk.history.maintenance import HistoryMaintenance
from kekd_server.storage.disk.listings import Listings
from kekd_server.storage.disk.os_errors import OsErrorTranslator
from kekd_server.storage.disk.record_writer import RecordWriter
from kekd_server.storage.disk.records import DiskRecords
from kekd_server.storage.disk.temporary_folder import ThreadFolder, remove_abandoned
from kekd_server.storage.disk.write_locks import WriteLocks
from kekd_server.storage.driver import PROBE_BYTES, NameRange, StoredRecord
from kekd_server.storage.history.destruction import DestroyedVersion, Destruction
from kekd_server.storage.history.failures import HistoryFailures
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.retention import DEFAULT_RETENTION, Retention
from kekd_server.storage.history.totals import HistoryTotals
from kekd_server.storage.history.version import Version
from kekd_server.storage.history.version_import import ImportedVersion
from kekd_server.storage.history.version_page import page_of


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
        self._records = DiskRecords(root / layout.RECORDS)
        self.cache = self._records.cache
        self._temporary = root / layout.TEMPORARY
        self._locks = WriteLocks(root / layout.LOCKS)
        self.history_failures = HistoryFailures(str(root))
        self._history = DiskHistory(
            root / layout.HISTORY, self._records, retention, self.history_failures
        )
        self._holds = DiskHolds(root / layout.HOLDS)
        self._destructions = DestructionMarks(root / layout.DESTRUCTIONS)
        self._translate_os_errors = OsErrorTranslator(root, self._records.folder)
        self._listings = Listings([self._records.folder])
        self._listings_with_deleted = Listings([self._records.folder, root / layout.HISTORY])
        self._thread_folder = ThreadFolder(self._temporary, count())
        writer = RecordWriter(
            self._records,
            locks=self._locks,
            holds=self._holds,
            history=self._history,
            thread_folder=self._thread_folder,
            translate_os_errors=self._translate_os_errors,
        )
        self.create = writer.create
        self.put = writer.put
        self.restore = writer.restore
        self.undelete = writer.undelete
        self.delete = writer.delete
        self._links = HistoryLinks(root / layout.HISTORY, self._records.folder)
        self._maintenance = HistoryMaintenance(
            self._records,
            locks=self._locks,
            holds=self._holds,
            history=self._history,
            failures=self.history_failures,
            translate_os_errors=self._translate_os_errors,
        )
        self.notice_change = self._maintenance.notice_change
        self.maintain_history = self._maintenance.run
        self.schedule_scan = self._maintenance.schedule_scan

    def open(self, *, create: bool = False) -> bool:
        with self._translate_os_errors:
            is_new = layout.open_keystore(self._root, create=create)
            remove_abandoned(self._temporary)
            if self._history.retention.is_on:
                self._links.check(self._temporary)
        return is_new

    def check(self) -> None:
        """Calls stat(2) on the folder, which may succeed from memory while the disk fails."""
        with self._translate_os_errors:
            os.stat(self._records.folder)
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
            for folder in (self._records.folder, self._temporary, *self._history.required_folders):
                if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                    os.stat(folder)
                    raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        # Some filesystems count no inodes.
        if disk.f_bavail * disk.f_frsize < PROBE_BYTES or (disk.f_files and not disk.f_favail):
            self.probe()

    def find_limitations(self) -> str:
        with self._translate_os_errors:
            return self._links.find_limitations() if self._history.retention.is_on else ""

    def probe(self) -> None:
        with self._translate_os_errors:
            durable.probe(self._thread_folder.path, PROBE_BYTES)

    def get(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord:
        with self._translate_os_errors:
            stored = self._records.read(name, bypass_cache=bypass_cache)
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
                self._history.try_catch_up(name)
            versions = self._history.open(name).versions()
        return page_of(versions, name, after, limit)

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion]
    ) -> Sequence[Version]:
        with self._translate_os_errors, self._locks.hold(name):
            self._holds.require_free(name)
            return self._history.import_versions(name, versions, self._thread_folder.path)

    def destroy(
        self, name: IndexName, *, if_etag: str | None, digest: Callable[[bytes], str]
    ) -> Destruction:
        with self._translate_os_errors, self._locks.hold(name):
            stored = self._records.read(name)
            if stored and if_etag not in (None, stored.etag):
                raise EtagMismatchError(name.value)
            self._holds.require_free(name)
            self._history.try_catch_up(name)
            versions = self._history.describe(name, digest)
            if stored and stored.etag not in {version.etag for version in versions}:
                # There is no history.
                versions.insert(0, DestroyedVersion("", stored.etag, digest(stored.record)))
            marked = self._destructions.begin(name, versions, self._thread_folder.path)
            if stored:
                durable.remove(self._records.path(name))
                self.cache.drop(name.key)
            left, remaining = self._history.destroy(name)
            # A process that was killed may have left a copy.
            remove_abandoned(self._temporary)
            self._destructions.end(name)
        with self._translate_os_errors:
            remaining += find_unfinished(self._records.folder, name)
        destroyed = [version for version in marked if version.id not in left]
        return Destruction("", destroyed, remaining)

    def find_hold(self, name: IndexName) -> Hold | None:
        with self._translate_os_errors:
            return self._holds.find(name)

    def hold(self, name: IndexName, hold: Hold) -> None:
        with self._translate_os_errors, self._locks.hold(name):
            held = hold._replace(etag=self._records.find_etag(name) or "")
            self._holds.add(name, held, self._thread_folder.path)

    def release(self, name: IndexName) -> bool:
        with self._translate_os_errors, self._locks.hold(name):
            return self._holds.remove(name)

    def find_own_write(self, name: IndexName) -> str | None:
        """Returns the etag of the record if this daemon certainly wrote it, and nothing wrote into
        it later. None if that is unknown.
        """
        try:
            return self._history.find_own_write(name)
        except OSError:
            return None

    def history_totals(self) -> HistoryTotals:
        return self._maintenance.totals

    def describe_history(self) -> str:
        return self._history.retention.describe("on disk")

    def get_version(self, name: IndexName, version_id: str) -> StoredRecord:
        with self._translate_os_errors, self._locks.hold_if_writable(name) as is_writable:
            if is_writable:
                self._history.try_catch_up(name)
            return self._history.open(name).read(version_id)

    @property
    def records_folder(self) -> Path:
        """See `DiskRecords.folder`."""
        return self._records.folder

    def close(self) -> None:
        self._listings.close()
        self._listings_with_deleted.close()
