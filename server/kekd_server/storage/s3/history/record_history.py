"""Keeps the versions of one record that S3 doesn't keep itself."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from kekd_common.aws_credentials import STALE_CODES
from kekd_server.model.errors import HistoryUnavailableError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.history.version import Origin, Version, VersionEvent
from kekd_server.storage.history.version_file import VersionFile
from kekd_server.storage.s3.client import PutResult, StoredObject
from kekd_server.storage.s3.errors import RequestError, S3Error
from kekd_server.storage.s3.history.kept_versions import Folder, KeptVersion, KeptVersions
from kekd_server.storage.s3.history.state import HistoryState
from kekd_server.storage.s3.history.version_metadata import identify, version_of
from kekd_server.storage.s3.history.versioning import Versioning


class NextVersion(NamedTuple):
    """The version that a write is about to make."""

    file: VersionFile
    """Without an etag, which S3 makes."""
    follows_unknown_deletion: bool = False
    """Whether another program deleted the record before."""
    version_count: int | None = None
    """How many versions kekd keeps until then; None if that isn't known."""


class S3RecordHistory:
    """S3 keeps a version that has an id when the object is replaced or deleted. kekd keeps the
    others:

    - before a request that replaces or deletes one, so that none is lost
    - after a request that stored one, as other programs may replace or delete it
    """

    def __init__(self, name: IndexName, kept: KeptVersions, state: HistoryState) -> None:
        self._name = name
        self._kept = kept
        self._state = state

    def prepare(self, current: StoredObject | None, origin: Origin) -> NextVersion:
        """Keeps the record that a write is about to replace or delete. Raises
        `HistoryUnavailableError`, and the errors of botocore for credentials.
        """
        earliest = version_of(current).time_ns + 1 if current else 0
        is_deleted, count = False, None
        if self._state.retention.is_on:
            with self._translate_errors():
                if current is None:
                    earliest, is_deleted, count = self._find_deletion()
                elif not current.version_id:
                    earliest = self._keep_current(current) + 1
                    count = self._state.count_kept(self._name)
        time_ns = max(time.time_ns(), earliest)
        file = VersionFile.make(time_ns, origin.event, "", origin.caller)
        return NextVersion(file, is_deleted, count)

    def complete(self, version: NextVersion, record: bytes, result: PutResult) -> None:
        """Keeps what a write stored. If that fails, the next write does it."""
        self._state.versioning.note_version(result.version_id)
        if result.version_id or not self._state.retention.is_on:
            return
        with self._report_errors():
            if version.follows_unknown_deletion:
                self._kept.add(_deletion(version.file.time_ns - 1))
            file = _with_etag(version.file, result.etag)
            if version.version_count is None:
                self._keep(file, record)
            else:
                self._keep_next(
                    file, record, version.version_count + 1 + version.follows_unknown_deletion
                )

    def complete_earlier(self, stored: StoredObject) -> None:
        """Does the same for an object that an earlier request of the same write stored."""
        result = PutResult(stored.etag, stored.version_id)
        self.complete(NextVersion(version_of(stored)), stored.content, result)

    def note_deletion(self, version: NextVersion, version_id: str | None) -> None:
        """Adds a deletion that S3 applied. `version_id`: of the deletion; None if the response was
        lost.
        """
        if version_id or not self._state.retention.is_on:
            return
        with self._report_errors():
            if version_id is None and self._state.versioning.find() is Versioning.ENABLED:
                return
            self._kept.add(version.file)
            count = None if version.version_count is None else version.version_count + 1
            self._state.note_kept(self._name, version.file, count)

    def add_record(self, current: StoredObject, kept: Sequence[KeptVersion]) -> None:
        """Keeps the record that another program wrote, if it is not the newest one of `kept`."""
        file = identify(current, [version.file for version in kept])
        if self._state.retention.is_on and not (kept and file == kept[0].file):
            with self._report_errors():
                self._keep(file, current.content)

    def add_deletion(self, last: Version) -> KeptVersion | None:
        """Adds the deletion of the last version by another program. Returns None if kekd can't keep
        it.
        """
        if self._state.retention.is_on:
            with self._report_errors():
                deletion = _deletion(max(time.time_ns(), last.time_ns + 1))
                self._kept.add(deletion)
                return KeptVersion(deletion, 0)
        return None

    def _find_deletion(self) -> tuple[int, bool, int | None]:
        """Returns the earliest time of the first version after a deletion or destruction, whether
        kekd doesn't know of that deletion, and how many versions kekd keeps, if that is known.
        """
        if self._state.versioning.find() is Versioning.ENABLED:
            return 0, False, None
        folder = self._kept.read_folder()
        if not folder.versions:
            return folder.destroyed_ns + 1, False, 0
        newest = folder.versions[0].file
        return newest.time_ns + 2, not newest.is_deletion, len(folder.versions)

    def _keep_current(self, current: StoredObject) -> int:
        """Returns the time of the version, or of a destruction after it."""
        file = version_of(current)
        if self._state.is_kept(self._name, file):
            return file.time_ns
        if file.event is VersionEvent.FOUND:
            file = identify(current, [version.file for version in self._kept.list()])
        return max(file.time_ns, self._keep(file, current.content).destroyed_ns)

    def _keep(self, file: VersionFile, record: bytes) -> Folder:
        folder = self._kept.keep(file, record)
        self._note(file, folder)
        return folder

    def _keep_next(self, file: VersionFile, record: bytes, count: int) -> None:
        """Does the same without a listing, unless the index was ever destroyed. `count`: of the
        versions that there are then.
        """
        self._kept.add(file, record)
        if self._kept.may_have_marks():
            self._note(file, self._kept.remove_if_destroyed(file))
        else:
            self._state.note_kept(self._name, file, count)

    def _note(self, file: VersionFile, folder: Folder) -> None:
        if file not in folder.leftovers:
            self._state.note_kept(self._name, file, len(folder.versions))

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except RequestError as error:
            if isinstance(error, S3Error) and error.code in STALE_CODES:
                raise  # the whole store refuses these credentials
            if self._state.retention.is_required:
                if error.is_transient and not error.is_full:
                    raise  # a retry may help
                raise HistoryUnavailableError(
                    self._name.value, f"{self._kept.folder}: {_describe(error)}"
                ) from error
            self._report(_describe(error))

    @contextmanager
    def _report_errors(self) -> Iterator[None]:
        """The next write of the index keeps the version."""
        try:
            yield
        except (RequestError, BotoCoreError, ClientError) as error:
            self._report(error)

    def _report(self, why: object) -> None:
        self._state.failures.report(f"{self._kept.folder}: {why}", self._name)


def _with_etag(file: VersionFile, etag: str) -> VersionFile:
    return VersionFile.make(file.time_ns, file.event, etag, file.caller)


def _deletion(time_ns: int) -> VersionFile:
    return VersionFile.make(time_ns, VersionEvent.DELETED, "", "")


def _describe(error: RequestError) -> str:
    return f"S3 answered {error}" if isinstance(error, S3Error) else f"no answer from S3: {error}"
