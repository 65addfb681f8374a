"""The histories of the records of a keystore folder.

PATH/_kekd/history/<key>/<version>    a hard link to each record that was written (see VersionFile)

A version that is still the record takes no room of its own, and one that was replaced takes the
room that the record took. An imported version is a file of its own. Nothing refers from the records
to their history, so CyborgDB and kekd read them without it.

The link precedes the system call that makes the record visible. The fsync(2) of the folder of the
records follows both, and commits them together on a filesystem with one journal, such as ext4 and
XFS. On others, a power cut may take the newest versions, but no record.
"""

import errno
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from kekd_server.model.errors import HistoryOffError, HistoryUnavailableError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable
from kekd_server.storage.disk.history.newest_versions import NewestVersion, NewestVersions, stamp_of
from kekd_server.storage.disk.history.record_history import (
    NOT_OURS,
    RecordHistory,
    add_first_version,
)
from kekd_server.storage.disk.idempotent_write import IdempotentWrite
from kekd_server.storage.disk.records import DiskRecords
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.history.destruction import DestroyedVersion, RemainingVersion
from kekd_server.storage.history.failures import HistoryFailures
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.history.version import Origin, Version
from kekd_server.storage.history.version_file import VersionFile
from kekd_server.storage.history.version_import import ImportedVersion

_PRUNING_DELAY: Final = 5.0
_DISK_FULL_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT)


class DiskHistory:
    """Hold the record's lock while you call a method, unless its docstring says that it needs
    none.
    """

    def __init__(
        self, folder: Path, records: DiskRecords, retention: Retention, failures: HistoryFailures
    ) -> None:
        self.retention = retention
        self._folder = folder
        self._records = records
        self._overfull: dict[IndexName, float] = {}
        """The time from which the background may remove a name's expired versions."""
        self._failures = failures
        self._newest = NewestVersions()

    @property
    def required_folders(self) -> Sequence[Path]:
        """The folders without which writes fail."""
        is_required = self.retention.is_on and self.retention.is_required
        return [self._folder] if is_required else []

    def open(self, name: IndexName) -> RecordHistory:
        """Raises OSError."""
        return RecordHistory(name, self._path(name), self._records.path(name))

    @contextmanager
    def keep(
        self,
        name: IndexName,
        record: durable.NewFile,
        *,
        written: WriteResult,
        origin: Origin,
        write: IdempotentWrite,
    ) -> Iterator[None]:
        """Links a new file as the version of a write. The ledger already has the write."""
        if not self.retention.is_on:
            yield
            return
        version = None
        with self._translate_errors(name):
            version = self._add_version(name, record, written, origin, write)
        try:
            yield
        except FileExistsError:
            # After any other error it may be the record: `catch_up` finds out.
            if version:
                with suppress(OSError):
                    os.unlink(f"{self._path(name)}/{version.file.name}")
            raise
        if version:
            self._newest.add(name, version._replace(total=self._limit(name, version.total)))

    def _add_version(
        self,
        name: IndexName,
        record: durable.NewFile,
        written: WriteResult,
        origin: Origin,
        write: IdempotentWrite,
    ) -> NewestVersion:
        stamp = stamp_of(record.stat())
        newest = self._find_newest(name, written.previous_etag, write)
        self._newest.forget(name)
        if newest:
            file = VersionFile.after(newest.file, origin.event, written.etag, origin.caller)
            with suppress(FileNotFoundError):  # the history was removed
                record.link(f"{self._path(name)}/{file.name}")
                return NewestVersion(file, written.etag, stamp, write.attempt_id, newest.total + 1)
        if written.previous_etag is None and (
            first := add_first_version(self._path(name), record, origin, written.etag)
        ):
            return NewestVersion(first, written.etag, stamp, write.attempt_id, 1)
        history = self.open(name)
        history.catch_up(written.previous_etag)
        file = history.add(record, origin, written.etag)
        return NewestVersion(file, written.etag, stamp, write.attempt_id, len(history))

    def _find_newest(
        self, name: IndexName, current_etag: str | None, write: IdempotentWrite
    ) -> NewestVersion | None:
        """Returns the newest version if this daemon made it, and nothing has happened since. See
        `NewestVersions`.
        """
        newest = self._newest.find(name)
        is_newest = (
            newest is not None
            and newest.etag == current_etag
            and newest.attempt_id == write.last_applied
            and self._is_record(newest, name)
        )
        return newest if is_newest else None

    def keep_deletion(
        self, name: IndexName, current_etag: str, caller: str, *, is_recorded: bool
    ) -> None:
        """Prepares the removal of the record. `is_recorded`: whether the ledger has it. Raises
        `HistoryUnavailableError`.
        """
        if not self.retention.is_on:
            return
        self._newest.forget(name)
        with self._translate_errors(name):
            history = self.open(name)
            history.catch_up(current_etag)
            if not is_recorded:
                return  # the disk is full: the deletion is noticed later
            try:
                history.mark_deletion(caller)
            except OSError as error:
                # The version is kept, and its deletion is noticed later.
                if error.errno not in _DISK_FULL_ERRORS:
                    raise

    def catch_up(self, name: IndexName) -> None:
        """See `RecordHistory.catch_up`. Raises `HistoryUnavailableError`."""
        if self.retention.is_on:
            self._newest.forget(name)
            with self._translate_errors(name):
                history = self.open(name)
                history.catch_up(self._records.find_etag(name))
                if len(history) > self.retention.versions:
                    self._overfull[name] = 0

    def try_catch_up(self, name: IndexName) -> None:
        """Like `catch_up` before a read, which also succeeds on a disk that can't be written."""
        with suppress(HistoryUnavailableError):
            self.catch_up(name)

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion], temporary_folder: Path
    ) -> Sequence[Version]:
        """See `Driver.import_versions`. Raises OSError."""
        if not self.retention.is_on:
            raise HistoryOffError(name.value)
        history = self.open(name)
        history.catch_up(self._records.find_etag(name))
        self._newest.forget(name)
        added = history.import_versions(versions, temporary_folder)
        self._limit(name, len(history))
        return added

    def describe(self, name: IndexName, digest: Callable[[bytes], str]) -> list[DestroyedVersion]:
        """See `RecordHistory.describe`. Raises OSError."""
        try:
            return self.open(name).describe(digest)
        except NotADirectoryError:
            return []

    def destroy(self, name: IndexName) -> tuple[Collection[str], list[RemainingVersion]]:
        """Returns the ids of the versions that are left, and all files that are. See
        `RecordHistory.destroy`. Raises OSError.
        """
        self._newest.forget(name)
        try:
            history = self.open(name)
        except NotADirectoryError:
            return [], [RemainingVersion(self._path(name), NOT_OURS)]
        remaining = history.destroy()
        return {version.id for version in history.versions()}, remaining

    def prune(self, name: IndexName) -> int:
        """Removes the versions that have expired, and returns their number. Raises OSError."""
        return self.open(name).prune(self.retention)

    def overfull_names(self) -> Iterator[IndexName]:
        """Yields the names whose history has too many versions, once their writes have paused.
        Needs no lock.
        """
        now = time.monotonic()
        # Those that writes add in the meantime come next time.
        for name, due in self._overfull.copy().items():
            if due <= now:
                yield name
                if self._overfull.get(name) in (due, 0):  # no write has followed
                    self._overfull.pop(name, None)

    def names(self) -> Iterator[IndexName]:
        """Yields each name that has a record or a history. Needs no lock."""
        for folder in (self._records.folder, self._folder):
            with os.scandir(folder) as entries:
                for entry in entries:
                    record = f"{self._records.folder}/{entry.name}"
                    if folder is self._folder and os.path.lexists(record):
                        continue
                    if name := IndexName.from_key(entry.name):
                        yield name

    def has_foreign_change(self, name: IndexName, *, since_ns: int) -> bool:
        """Returns whether another program made the newest version after that time. Needs no
        lock.
        """
        return self.open(name).has_foreign_change(since_ns)

    def find_own_write(self, name: IndexName) -> str | None:
        """Returns the etag of the record if it is surely the last one that this daemon wrote and
        kept. Needs no lock.
        """
        newest = self._newest.find(name)
        return newest.etag if newest and self._is_record(newest, name) else None

    def _is_record(self, version: NewestVersion, name: IndexName) -> bool:
        try:
            return version.stamp == stamp_of(os.lstat(self._records.path(name)))
        except FileNotFoundError:
            return False

    def is_settled(self, name: IndexName) -> bool:
        """See `RecordHistory.is_settled`. Needs no lock."""
        try:
            etag = self._records.find_etag(name, bypass_cache=True)
            return self.open(name).is_settled(self.retention, etag)
        except OSError:  # a version was removed in the meantime, or the folder is damaged
            return False

    def _limit(self, name: IndexName, count: int) -> int:
        """Lets the background remove expired versions when the writes of the record pause. While
        they go on, removes several at once. Returns how many versions there are then.
        """
        if count > self.retention.versions:
            self._overfull[name] = time.monotonic() + _PRUNING_DELAY
        if count <= 2 * self.retention.versions:
            return count
        try:
            history = self.open(name)
            history.prune(self.retention)
        except OSError as error:  # the write has succeeded
            self._failures.report(f"{self._folder}: {error.strerror}", name)
            return count
        return len(history)

    def _path(self, name: IndexName) -> str:
        return f"{self._folder}/{name.key}"

    def _translate_errors(self, name: IndexName) -> "_HistoryErrorTranslator":
        failures = None if self.retention.is_required else self._failures
        return _HistoryErrorTranslator(name, self._folder, failures)


class _HistoryErrorTranslator:
    """Translates an OSError to a `HistoryUnavailableError`, or counts it if writes may continue."""

    def __init__(self, name: IndexName, folder: Path, failures: HistoryFailures | None) -> None:
        self._name = name
        self._folder = folder
        self._failures = failures

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if not isinstance(error, OSError):
            return False
        why = f"{self._folder}: {error.strerror}"
        if self._failures is None:
            raise HistoryUnavailableError(self._name.value, why) from error
        self._failures.report(why, self._name)
        return True
