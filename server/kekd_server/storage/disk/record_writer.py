"""The writes to a keystore folder, in steps."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from kekd_server.model.errors import EnvelopeExistsError, EtagMismatchError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable
from kekd_server.storage.disk.history.history import DiskHistory
from kekd_server.storage.disk.history.holds import DiskHolds
from kekd_server.storage.disk.idempotent_write import IdempotentWrite
from kekd_server.storage.disk.os_errors import OsErrorTranslator
from kekd_server.storage.disk.records import DiskRecords
from kekd_server.storage.disk.temporary_folder import ThreadFolder
from kekd_server.storage.disk.write_locks import WriteLocks
from kekd_server.storage.driver import ValidateVersion, WriteResult
from kekd_server.storage.etag import etag_of
from kekd_server.storage.history.version import Origin, VersionEvent
from kekd_server.storage.history.version_page import last_with_record
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.steps import Steps

T = TypeVar("T")


class RecordWriter:
    """The writing methods of `Driver`. Each holds the lock of its record from its first step to its
    last.
    """

    def __init__(  # noqa: PLR0913
        self,
        records: DiskRecords,
        *,
        locks: WriteLocks,
        holds: DiskHolds,
        history: DiskHistory,
        thread_folder: ThreadFolder,
        translate_os_errors: OsErrorTranslator,
    ) -> None:
        self._records = records
        self._locks = locks
        self._holds = holds
        self._history = history
        self._thread_folder = thread_folder
        self._translate_os_errors = translate_os_errors

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
        def restore(write: IdempotentWrite) -> "Steps[WriteResult]":
            self._history.try_catch_up(name)
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
        def undelete(write: IdempotentWrite) -> "Steps[str]":
            self._history.try_catch_up(name)
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

    def _write(
        self,
        name: IndexName,
        attempt: WriteAttempt | None,
        write: Callable[[IdempotentWrite], Steps[T]],
    ) -> Steps[T]:
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
        if earlier := write.find_previous_result(written.etag, self._records.read_etag):
            yield from self._sync_earlier()
            return earlier.etag
        self._holds.require_free(name)
        try:
            yield from durable.create_steps(
                self._records.path(name),
                record,
                self._thread_folder.path,
                lambda file: self._commit(name, file, written, origin, write),
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
        if earlier := write.find_previous_result(etag, self._records.read_etag):
            yield from self._sync_earlier()
            return earlier
        if if_etag is not None:  # refuse it before the file is written
            self._find_replaced_etag(name, if_etag)
        self._holds.require_free(name)
        written: WriteResult

        def commit(file: durable.NewFile) -> AbstractContextManager[None]:
            # Other programs take no lock, and the file's sync may have taken long.
            nonlocal written
            written = WriteResult(etag, self._find_replaced_etag(name, if_etag))
            return self._commit(name, file, written, origin, write)

        yield from durable.replace_steps(
            self._records.path(name), record, self._thread_folder.path, commit
        )
        return written

    def _sync_earlier(self) -> Steps[None]:
        """Syncs what an earlier attempt may have changed before it failed or was killed."""
        return durable.sync_folder_steps(str(self._records.folder))

    def _find_replaced_etag(self, name: IndexName, if_etag: str | None) -> str | None:
        """Returns the etag of the record that a push replaces. Raises `EtagMismatchError`."""
        if if_etag is None:
            return self._records.find_etag(name)
        if self._records.read_etag(name) != if_etag:
            raise EtagMismatchError(name.value)
        return if_etag

    @contextmanager
    def _commit(
        self,
        name: IndexName,
        file: durable.NewFile,
        written: WriteResult,
        origin: Origin,
        write: IdempotentWrite,
    ) -> Iterator[None]:
        with (
            write.commit(written),
            self._history.keep(name, file, written=written, origin=origin, write=write),
        ):
            yield

    def _delete(
        self, write: IdempotentWrite, name: IndexName, if_etag: str | None, caller: str
    ) -> Steps[str | None]:
        earlier = write.find_previous_result("", self._records.read_etag)
        etag = None if earlier else self._records.read_etag(name)
        if etag is None:
            yield from self._sync_earlier()
            if earlier:
                return earlier.previous_etag
            write.record_no_change()
            return None
        if if_etag not in (None, etag):
            raise EtagMismatchError(name.value)
        self._holds.require_free(name)
        with write.commit(WriteResult("", etag)) as is_recorded:
            self._history.keep_deletion(name, etag, caller, is_recorded=is_recorded)
            yield from durable.remove_steps(self._records.path(name))
        return etag
