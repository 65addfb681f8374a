"""Lists and reads the versions of one record, those that S3 keeps and those that kekd keeps."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, NamedTuple

from kekd_server.model.errors import (
    CorruptVersionError,
    StoreMisconfiguredError,
    VersionNotFoundError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import MAX_RECORD_BYTES, StoredRecord
from kekd_server.storage.history.version import Version, VersionEvent
from kekd_server.storage.history.version_file import VersionFile, is_version_id
from kekd_server.storage.history.version_page import page_of
from kekd_server.storage.s3.client import S3Client, StoredObject
from kekd_server.storage.s3.concurrent_requests import map_requests
from kekd_server.storage.s3.errors import S3Error
from kekd_server.storage.s3.history.kept_versions import KeptVersion, KeptVersions
from kekd_server.storage.s3.history.record_history import S3RecordHistory
from kekd_server.storage.s3.history.state import HistoryState
from kekd_server.storage.s3.history.version_metadata import identify, version_of
from kekd_server.storage.s3.history.versioning import Versioning
from kekd_server.storage.s3.listing import NULL_VERSION, ListedVersion

_NOT_FOUND: Final = {
    "InvalidArgument",  # no id of S3
    "InvalidRequest",  # the same on SeaweedFS
    "MethodNotAllowed",  # a deletion
    "NoSuchKey",
    "NoSuchVersion",
}
"""The codes of responses to the get of a version that has no record."""


class S3VersionReader:
    """A version that S3 keeps has the id that S3 gave it. Any other has an id that kekd makes,
    which is the same for the record and for the copy that kekd keeps of it.

    The methods raise `RequestError`, and the errors of botocore for credentials.
    """

    def __init__(
        self, name: IndexName, client: S3Client, key: str, kept: KeptVersions, state: HistoryState
    ) -> None:
        self._name = name
        self._client = client
        self._key = key
        self._kept = kept
        self._state = state

    def page(self, after: str, limit: int) -> Sequence[Version]:
        page = page_of(self.versions(), self._name, after, limit)
        # S3's listings have no metadata.
        unread = [version.id for version in page if _is_unread(version)]
        stored = dict(zip(unread, map_requests(self._find_version, unread), strict=True))
        return [_with_metadata(version, stored.get(version.id)) for version in page]

    def versions(self) -> Sequence[Version]:
        """Returns all versions, newest first, and keeps what other programs wrote. Those that S3
        keeps have no event and no caller.
        """
        kept = self._kept.list()
        current = self._client.find_object(self._key, MAX_RECORD_BYTES)
        if current and current.version_id and not self._s3_has_versions():
            self._state.versioning.note_version(current.version_id)
        listing = self._list(current, [version.file for version in kept])
        versions = _merge(listing, kept)
        history = S3RecordHistory(self._name, self._kept, self._state)
        if current and not current.version_id:
            history.add_record(current, kept)
        is_deleted = current is None and not listing.has_newest
        if is_deleted and versions and not versions[0].is_deletion:
            deletion = history.add_deletion(versions[0])
            return [deletion.version, *versions] if deletion else versions
        return versions

    def read(self, version_id: str) -> StoredRecord:
        """Raises `VersionNotFoundError` and `CorruptVersionError`."""
        if is_version_id(version_id):
            return self._read_kept(version_id) or self._read_current(version_id)
        is_null = version_id in ("", NULL_VERSION)
        if is_null or not self._s3_has_versions():
            raise self._not_found(version_id)
        stored = self._find_version(version_id)
        if stored is None:
            is_deletion = any(
                listed.is_deletion for listed in self._list_s3() if listed.id == version_id
            )
            raise self._not_found(version_id, is_deletion=is_deletion)
        return StoredRecord(stored.content, stored.etag)

    def _read_kept(self, version_id: str) -> StoredRecord | None:
        for file, _ in self._kept.list():
            if file.id == version_id:
                if file.is_deletion:
                    raise self._not_found(version_id, is_deletion=True)
                try:
                    record = self._kept.read(file)
                except ValueError as error:
                    raise CorruptVersionError(self._name.value, version_id, str(error)) from error
                return None if record is None else StoredRecord(record, file.etag)
        return None

    def _read_current(self, version_id: str) -> StoredRecord:
        """Reads the only version that neither S3 nor kekd keeps."""
        stored = self._find_null_version()
        if stored is None or stored.version_id:
            raise self._not_found(version_id)
        file = identify(stored, [version.file for version in self._kept.list()])
        if file.id != version_id:
            raise self._not_found(version_id)
        return StoredRecord(stored.content, stored.etag)

    def _s3_has_versions(self) -> bool:
        return self._state.versioning.find() is not Versioning.OFF

    def _list(self, current: StoredObject | None, kept: Sequence[VersionFile]) -> "_S3Listing":
        if self._s3_has_versions():
            listed = self._list_s3()
            versions = list(filter(None, (self._version_of(one, kept) for one in listed)))
            has_newest = bool(listed) and listed[0].is_latest and not _is_null_deletion(listed[0])
            return _S3Listing(versions, has_newest=has_newest)
        if current is None:
            return _S3Listing((), has_newest=False)
        version = identify(current, kept).version(len(current.content))
        if current.version_id:
            version = replace(version, id=current.version_id)
        return _S3Listing((version,), has_newest=True)

    def _version_of(self, listed: ListedVersion, kept: Sequence[VersionFile]) -> Version | None:
        if _is_null_deletion(listed):
            return None  # kekd keeps it
        if listed.id:
            event = VersionEvent.DELETED if listed.is_deletion else VersionEvent.FOUND
            time_ns = self._time_of(listed, kept)
            return Version(listed.id, event, time_ns, listed.etag, listed.size, "")
        stored = self._find_null_version()
        return identify(stored, kept).version(listed.size) if stored else None

    def _time_of(self, listed: ListedVersion, kept: Sequence[VersionFile]) -> int:
        """Reads the exact time only if kekd keeps a version of the same second."""
        second = listed.modified_ns // 10**9
        if not listed.is_deletion and second in (file.time_ns // 10**9 for file in kept):
            stored = self._find_version(listed.id)
            return version_of(stored).time_ns if stored else listed.modified_ns
        return listed.modified_ns

    def _list_s3(self) -> Sequence[ListedVersion]:
        listed: list[ListedVersion] = []
        with self._explain_denial():
            for page in self._client.list_object_versions(self._key):
                listed += (version for version in page if version.key == self._key)
                if page and page[-1].key != self._key:
                    break  # keys that start with this one follow
        # Some servers list the deletions last.
        return sorted(listed, key=lambda version: (not version.is_latest, -version.modified_ns))

    def _find_null_version(self) -> StoredObject | None:
        if self._s3_has_versions():
            return self._find_version(NULL_VERSION)
        return self._client.find_object(self._key, MAX_RECORD_BYTES)

    def _find_version(self, version_id: str) -> StoredObject | None:
        try:
            with self._explain_denial():
                return self._client.get_object(self._key, MAX_RECORD_BYTES, version_id=version_id)
        except S3Error as error:
            if error.code in _NOT_FOUND:
                return None
            raise

    def _not_found(self, version_id: str, *, is_deletion: bool = False) -> VersionNotFoundError:
        return VersionNotFoundError(self._name.value, version_id, is_deletion=is_deletion)

    @contextmanager
    def _explain_denial(self) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code != "AccessDenied":
                raise
            raise StoreMisconfiguredError(
                f"the store {self._client.endpoint} has versions that kekd may not read: S3"
                f" answered {error}; allow the daemon s3:ListBucketVersions for the bucket, and"
                " s3:GetObjectVersion for its objects"
            ) from error


class _S3Listing(NamedTuple):
    versions: Sequence[Version]
    """The record and the versions that S3 keeps, newest first."""
    has_newest: bool
    """Whether the first of them is newer than all versions that kekd keeps."""


def _is_null_deletion(listed: ListedVersion) -> bool:
    return listed.is_deletion and not listed.id


def _is_unread(version: Version) -> bool:
    return version.event is VersionEvent.FOUND and not is_version_id(version.id)


def _with_metadata(version: Version, stored: StoredObject | None) -> Version:
    if stored is None:
        return version
    file = version_of(stored)
    return replace(version, event=file.event, caller=file.caller)


def _merge(listing: _S3Listing, kept: Sequence[KeptVersion]) -> Sequence[Version]:
    """Returns all versions, newest first."""
    listed = listing.versions
    ids = {version.id for version in listed}
    others = [version.version for version in kept if version.file.id not in ids]
    start = 1 if listing.has_newest else 0
    merged = heapq.merge(
        _in_order(listed[start:]), _in_order(others), key=lambda version: -version.time_ns
    )
    return list(_in_order([*listed[:start], *merged]))


def _in_order(versions: Iterable[Version]) -> Iterator[Version]:
    """Makes each version older than the one before it. S3's times are whole seconds, and its clock
    is another one than kekd's.
    """
    latest: int | None = None
    for version in versions:
        time_ns = version.time_ns if latest is None else min(version.time_ns, latest - 1)
        yield version if time_ns == version.time_ns else replace(version, time_ns=time_ns)
        latest = time_ns
