"""Destroys one record in a bucket, with all its versions."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from kekd_server.model.errors import (
    CorruptVersionError,
    EtagMismatchError,
    StoreMisconfiguredError,
    StoreUnavailableError,
    VersionNotFoundError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import MAX_RECORD_BYTES
from kekd_server.storage.history.destruction import DestroyedVersion, Destruction, RemainingVersion
from kekd_server.storage.history.version import Version
from kekd_server.storage.history.version_file import VersionFile, is_version_id
from kekd_server.storage.s3.client import S3Client
from kekd_server.storage.s3.concurrent_requests import map_requests
from kekd_server.storage.s3.errors import RequestError, S3Error
from kekd_server.storage.s3.history.history import S3History
from kekd_server.storage.s3.history.holds import S3Holds
from kekd_server.storage.s3.history.object_versions import S3ObjectVersions, VersionKey
from kekd_server.storage.s3.history.versioning import Versioning
from kekd_server.storage.s3.listing import NULL_VERSION, ListedVersion
from kekd_server.storage.s3.object import (
    AmbiguousResponseError,
    PreconditionFailedError,
    S3Object,
)

_MAX_ROUNDS: Final = 8
"""How often it starts over because another writer was faster."""
_FOREIGN: Final = "kekd did not make this object; remove it yourself"
_NEW: Final = "it was written during the destruction; destroy the envelope again"


class _Found(NamedTuple):
    """What there was before the destruction."""

    destroyed: Sequence[DestroyedVersion]
    files: Sequence[VersionFile]
    """The versions that kekd keeps."""
    latest_ns: int
    """The time of the newest version; 0 if there is none."""
    listed: frozenset[VersionKey]
    """The versions that S3 keeps of all objects of the index."""


class S3Destruction:
    """Removes the record first, by one conditional request, then what kekd keeps of it, and then
    the versions that S3 keeps of all these objects. It removes the marks of deletions last, as
    they hide what is left.

    No lock protects these requests. Another daemon may keep a copy of the record during or after
    them: the mark of the destruction makes that daemon remove it (see `KeptVersions`).

    It keeps a record that is written after the removal, and reports it. Only on a bucket whose
    versioning is suspended, it may remove such a record.

    The methods raise `RequestError`, and the errors of botocore for credentials.
    """

    def __init__(
        self, client: S3Client, key: str, name: IndexName, history: S3History, holds: S3Holds
    ) -> None:
        self._client = client
        self._key = key
        self._name = name
        self._history = history
        self._holds = holds
        self._kept = history.kept(name)
        self._versions = S3ObjectVersions(client, (key, holds.key(name)), self._kept.folder)

    def run(self, if_etag: str | None, digest: Callable[[bytes], str]) -> Destruction:
        found = self._remove_record(if_etag, digest)
        for file in self._mark_destroyed(found):
            self._kept.remove(file)
        remaining = list(self._find_remaining(found, self._remove_versions(found)))
        self._history.forget(self._name)
        ids = {version.id for version in remaining}
        return Destruction("", [one for one in found.destroyed if one.id not in ids], remaining)

    def _remove_record(self, if_etag: str | None, digest: Callable[[bytes], str]) -> _Found:
        """Returns what there was when it removed the record."""
        record = S3Object(self._client, self._key)
        found = None
        for _ in range(_MAX_ROUNDS):
            current = record.read()
            if current and if_etag is not None and current.etag != if_etag:
                raise EtagMismatchError(self._name.value)
            self._holds.require_free(self._name)
            if current is None:
                return found or self._find(digest)
            found = self._find(digest)
            try:
                record.delete(current.etag)
            except PreconditionFailedError:
                found = None
            except AmbiguousResponseError:
                continue  # the next read shows whether S3 applied it
            else:
                return found
        raise StoreUnavailableError(
            f"the envelope of index '{self._name.value}' was not destroyed: other writers replaced"
            f" it {_MAX_ROUNDS} times in the meantime; retry"
        )

    def _find(self, digest: Callable[[bytes], str]) -> _Found:
        self._history.versioning.forget()
        reader = self._history.reader(self._name)

        def destroyed(version: Version) -> DestroyedVersion:
            try:
                content = digest(reader.read(version.id).record)
            except (CorruptVersionError, VersionNotFoundError):  # another program changed it
                content = ""
            return DestroyedVersion(version.id, version.etag, content)

        all_versions = reader.versions()
        versions = [version for version in all_versions if not version.is_deletion]
        listed = self._versions.list()
        self._require_versioning(listed)
        contents = map_requests(destroyed, versions)
        files = [version.file for version in self._kept.list()]
        # A listing shows some of the files with an earlier time.
        times = [*(one.time_ns for one in all_versions), *(file.time_ns for file in files)]
        latest_ns = max(times, default=0)
        return _Found(contents, files, latest_ns, frozenset(map(VersionKey.of, listed)))

    def _require_versioning(self, listed: Sequence[ListedVersion]) -> None:
        """Raises an error if S3 has versions that are not in the history, and have no digest."""
        if self._history.versioning.refusal and any(version.id for version in listed):
            raise StoreMisconfiguredError(
                f"the envelope of index '{self._name.value}' cannot be destroyed: S3 answered"
                f" {self._history.versioning.refusal} to the request for the versioning of the"
                " bucket; allow the daemon s3:GetBucketVersioning"
            )

    def _mark_destroyed(self, found: _Found) -> Sequence[VersionFile]:
        """Returns the versions that kekd keeps, also those that it has kept since. Needs no mark if
        S3 keeps all of them, as then no daemon copies a record.
        """
        is_enabled = self._history.versioning.find() is Versioning.ENABLED
        if is_enabled and all(version.id for version in found.listed):
            return found.files
        folder = self._kept.mark_destroyed(max(time.time_ns(), found.latest_ns))
        return folder.leftovers

    def _remove_versions(self, found: _Found) -> Mapping[VersionKey, S3Error]:
        """Returns the errors of those that S3 didn't remove."""
        by_key: dict[str, list[ListedVersion]] = defaultdict(list)
        for version in self._versions.list():
            by_key[version.key].append(version)
        errors: dict[VersionKey, S3Error] = {}
        for versions in by_key.values():
            contents = [version for version in versions if not version.is_deletion]
            # The latest one is new, as the requests before removed all objects.
            old = [
                version
                for version in contents
                if not version.is_latest and VersionKey.of(version) in found.listed
            ]
            failed = self._versions.remove(old)
            errors |= failed
            if len(old) - len(failed) == len(contents):
                errors |= self._versions.remove(filter(self._is_removable_mark, versions))
        return errors

    def _is_removable_mark(self, version: ListedVersion) -> bool:
        """The mark of a released hold that has no id may be replaced by a new hold at any time."""
        is_hold = version.key == self._holds.key(self._name)
        return version.is_deletion and bool(version.id or not is_hold)

    def _find_remaining(
        self, found: _Found, errors: Mapping[VersionKey, S3Error]
    ) -> Iterator[RemainingVersion]:
        listed_keys = set()
        for version in self._versions.list():
            listed_keys.add(version.key)
            if self._kept.is_mark(version.key):
                continue
            error = errors.get(VersionKey.of(version))
            is_hold = version.key == self._holds.key(self._name)
            if error:
                yield RemainingVersion(self._id_of(version, found), self._explain(version, error))
            elif not version.is_deletion and not is_hold:
                yield RemainingVersion(self._id_of(version, found), self._why(version.key))
        for page in self._client.list_objects_v2(self._kept.folder):
            for listed in page:
                # The server may have no versions.
                if listed.key not in listed_keys and not self._kept.is_mark(listed.key):
                    yield RemainingVersion(self._file_id(listed.key), self._why(listed.key))

    def _why(self, key: str) -> str:
        is_kekds = key == self._key or VersionFile.is_name(key.removeprefix(self._kept.folder))
        return _NEW if is_kekds else _FOREIGN

    def _id_of(self, version: ListedVersion, found: _Found) -> str:
        """Returns the id that the version had in the history."""
        if version.key != self._key:
            return self._file_id(version.key)
        if version.id or version.is_latest:  # a new one was in no history
            return version.id or NULL_VERSION
        same = (one.id for one in found.destroyed if one.etag == version.etag)
        return next(filter(is_version_id, same), NULL_VERSION)

    def _file_id(self, key: str) -> str:
        name = key.removeprefix(self._kept.folder)
        return VersionFile(name).id if VersionFile.is_name(name) else key

    def _explain(self, version: ListedVersion, error: S3Error) -> str:
        return f"S3 answered {error}; {self._advise(version)}, then destroy the envelope again"

    def _advise(self, version: ListedVersion) -> str:
        try:
            stored = self._client.get_object(
                version.key, MAX_RECORD_BYTES, version_id=version.id or NULL_VERSION
            )
        except RequestError:
            stored = None
        if stored and stored.has_legal_hold:
            return "end its legal hold"
        if stored and stored.retained_until:
            return f"wait until Object Lock ends on {stored.retained_until}"
        return (
            "allow the daemon s3:DeleteObjectVersion, or end what protects the version in S3"
            " (Object Lock, a legal hold or a bucket policy)"
        )
