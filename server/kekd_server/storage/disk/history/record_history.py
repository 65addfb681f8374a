"""The versions of one record of a keystore folder."""

import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from kekd_server.model.errors import CorruptVersionError, VersionNotFoundError
from kekd_server.model.folder import make_folder, sync_folder
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable
from kekd_server.storage.disk.record_cache import read_file
from kekd_server.storage.driver import StoredRecord
from kekd_server.storage.etag import etag_of
from kekd_server.storage.history.destruction import DestroyedVersion, RemainingVersion
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.history.version import Origin, Version, VersionEvent
from kekd_server.storage.history.version_file import VersionFile
from kekd_server.storage.history.version_import import ImportedVersion, find_missing

NOT_OURS: Final = "kekd did not make this file; remove it yourself"
_FOREIGN_EVENTS: Final = (VersionEvent.FOUND, VersionEvent.DELETED)


class RecordHistory:
    """A folder with a hard link to each record that was written, a copy of each that was imported,
    and an empty file for each deletion. Make it and use it while you hold the lock of the record;
    to read from a disk that can't be written, you need none. Its methods raise OSError.
    """

    def __init__(self, name: IndexName, folder: str, record: str) -> None:
        self._name = name
        self._folder = folder
        self._record = record
        self._files = _list_versions(folder)

    def versions(self) -> list[Version]:
        """Returns all versions, newest first."""
        versions = []
        for file in self._files:
            with suppress(FileNotFoundError):  # without the lock, another process may remove it
                versions.append(file.version(os.stat(self._path(file)).st_size))
        return versions

    def read(self, version_id: str) -> StoredRecord:
        """Raises `VersionNotFoundError`, and `CorruptVersionError` if its file was changed."""
        file = next((file for file in self._files if file.id == version_id), None)
        if file is None or file.is_deletion:
            raise VersionNotFoundError(self._name.value, version_id, is_deletion=file is not None)
        try:
            stored = read_file(self._path(file))
        except FileNotFoundError:  # without the lock, another process may remove it
            raise VersionNotFoundError(self._name.value, version_id) from None
        if stored.etag != file.etag:
            raise CorruptVersionError(
                self._name.value, version_id, "its file was changed after kekd kept it"
            )
        return stored

    def catch_up(self, etag: str | None) -> None:
        """Adds what happened to the record without kekd, and removes a version that kekd prepared
        before it was killed and that never became the record.

        `etag`: of the record; None if there is none, or if it can't be read.
        """
        inode, exists = self._stat_record()
        if len(self._files) > 1 and self._is_link(self._files[1], inode):
            os.unlink(self._path(self._files.pop(0)))
        newest = self._files[0] if self._files else None
        if not exists:
            if newest and not newest.is_deletion:
                self.mark_deletion()
        elif inode and etag is not None:
            self._find(newest, inode, etag)

    def add(self, record: durable.NewFile, origin: Origin, etag: str) -> VersionFile:
        """Links a file that becomes the record afterwards. If kekd is killed before that,
        `catch_up` removes the version.
        """
        file = self._next(origin.event, etag, origin.caller)
        self._link(record.link, file)
        return file

    def mark_deletion(self, caller: str = "") -> None:
        """Adds a deletion. Kekd removes the record afterwards."""
        file = self._next(VersionEvent.DELETED, "", caller)
        # A deletion follows a version, so the folder exists.
        os.close(os.open(self._path(file), os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._files.insert(0, file)

    def import_versions(
        self, versions: Sequence[ImportedVersion], temporary_folder: Path
    ) -> Sequence[Version]:
        """See `Driver.import_versions`. Each version is on disk before the next one is written, so
        that a crash leaves no gap, which a repetition couldn't fill.
        """
        missing = find_missing(self._name, versions, self._files, etag_of)
        if missing:
            make_folder(Path(self._folder))
        for file, record in missing:
            durable.create(self._path(file), record, temporary_folder)
            self._files.append(file)
        return [file.version(len(record)) for file, record in missing]

    def prune(self, retention: Retention) -> int:
        """Removes the versions that have expired, and returns their number."""
        expired = self._expired(retention)
        for _ in expired:  # the oldest first, in case the process is killed
            os.unlink(self._path(self._files.pop()))
        if not self._files:
            with suppress(FileNotFoundError):
                os.rmdir(self._folder)
        return len(expired)

    def describe(self, digest: Callable[[bytes], str]) -> list[DestroyedVersion]:
        """Returns the versions that have a record, newest first."""
        return [self._describe(file, digest) for file in self._files if not file.is_deletion]

    def _describe(self, file: VersionFile, digest: Callable[[bytes], str]) -> DestroyedVersion:
        digest_of_record = ""
        with suppress(OSError):  # a damaged version can be removed
            digest_of_record = digest(read_file(self._path(file)).record)
        return DestroyedVersion(file.id, file.etag, digest_of_record)

    def destroy(self) -> list[RemainingVersion]:
        """Removes all versions, so that no crash brings one back. Returns the files that are
        left.
        """
        if not os.path.lexists(self._folder):
            return []
        errors: dict[str, str] = {}
        for file in reversed(self._files):  # a crash leaves the newest
            try:
                os.unlink(self._path(file))
            except OSError as error:
                errors[file.name] = f"it could not be removed: {error.strerror}; remove it yourself"
        sync_folder(self._folder)
        with suppress(OSError):  # it has other files
            os.rmdir(self._folder)
        sync_folder(os.path.dirname(self._folder))
        self._files = [file for file in self._files if file.name in errors]
        return self._find_remaining(errors)

    def _find_remaining(self, errors: Mapping[str, str]) -> list[RemainingVersion]:
        if not os.path.lexists(self._folder):
            return []
        return [
            RemainingVersion(f"{self._folder}/{name}", errors.get(name, NOT_OURS))
            for name in os.listdir(self._folder)
        ]

    def is_settled(self, retention: Retention, etag: str | None) -> bool:
        """Whether the newest version is the record, which has this etag, and none has expired.
        Needs no lock: after an answer that is out of date, the next one is right.

        `etag`: None if there is no record, or if it can't be read.
        """
        inode, exists = self._stat_record()
        if not self._files:
            return not inode
        newest = self._files[0]
        if newest.is_deletion == exists or (inode and not self._is_link(newest, inode)):
            return False
        if inode and etag not in (None, newest.etag):  # it was overwritten in place
            return False
        return not self._expired(retention)

    def has_foreign_change(self, since_ns: int) -> bool:
        """Returns whether another program made the newest version after that time."""
        newest = self._files[0] if self._files else None
        # A deletion by kekd has a caller.
        is_foreign = newest and not newest.caller and newest.event in _FOREIGN_EVENTS
        return bool(is_foreign and newest and newest.time_ns > since_ns)

    def __len__(self) -> int:
        return len(self._files)

    def _expired(self, retention: Retention) -> Sequence[VersionFile]:
        return retention.find_expired(self._files, time.time_ns())

    def _stat_record(self) -> tuple[int, bool]:
        """Returns the inode of the record, 0 if it isn't a regular file; and whether it exists."""
        try:
            found = os.lstat(self._record)
        except FileNotFoundError:
            return 0, False
        return found.st_ino if stat.S_ISREG(found.st_mode) else 0, True

    def _is_link(self, file: VersionFile, inode: int) -> bool:
        return not file.is_deletion and os.stat(self._path(file)).st_ino == inode

    def _find(self, newest: VersionFile | None, inode: int, etag: str) -> None:
        found = self._next(VersionEvent.FOUND, etag, "")
        if newest is None or not self._is_link(newest, inode):
            self._link(partial(os.link, self._record, follow_symlinks=False), found)
        elif newest.etag != etag:
            # It was overwritten in place, and the version with it.
            os.rename(self._path(newest), self._path(found))
            self._files[0] = found

    def _next(self, event: VersionEvent, etag: str, caller: str) -> VersionFile:
        newest = self._files[0] if self._files else None
        return VersionFile.after(newest, event, etag, caller)

    def _link(self, link: Callable[[str], None], file: VersionFile) -> None:
        if not self._files:
            self._make_folder()
        link(self._path(file))
        self._files.insert(0, file)

    def _make_folder(self) -> None:
        """Like the links in it, the folder is synced with the folder of the records."""
        try:
            os.mkdir(self._folder, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            make_folder(Path(self._folder))

    def _path(self, file: VersionFile) -> str:
        return f"{self._folder}/{file.name}"


def add_first_version(
    folder: str, record: durable.NewFile, origin: Origin, etag: str
) -> VersionFile | None:
    """Like `RecordHistory.add`, for a record without a history, which needs no look at it. Returns
    None if there is a folder: it may have versions.
    """
    try:
        os.mkdir(folder, 0o700)
    except (FileExistsError, FileNotFoundError):
        return None
    file = VersionFile.after(None, origin.event, etag, origin.caller)
    record.link(f"{folder}/{file.name}")
    return file


def _list_versions(folder: str) -> list[VersionFile]:
    """Returns the files of the versions, newest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [VersionFile(name) for name in sorted(names, reverse=True) if VersionFile.is_name(name)]
