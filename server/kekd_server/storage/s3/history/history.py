"""The histories of the records of a bucket.

[PREFIX/]_kekd/history/<key>/<version>    what kekd keeps (see KeptVersions)

A bucket with versioning keeps the versions itself, and kekd lists and reads them. Lifecycle rules
remove them, never kekd. On any other bucket, kekd keeps copies and removes those that expire. A
bucket whose versioning was suspended has both. kekd keeps imported versions on every bucket, as S3
sets the times of its own.

A record of another program is kept when kekd next writes the index or lists its versions. If yet
another program replaced it before that, it is lost.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from kekd_server.model.errors import HistoryOffError, StoreUnavailableError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.history.failures import HistoryFailures
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.history.totals import HistoryTotals
from kekd_server.storage.history.version import Version
from kekd_server.storage.history.version_file import VersionFile
from kekd_server.storage.history.version_import import ImportedVersion, find_missing
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client
from kekd_server.storage.s3.history.holds import S3Holds
from kekd_server.storage.s3.history.kept_versions import Folder, KeptVersions, etag_of
from kekd_server.storage.s3.history.record_history import S3RecordHistory
from kekd_server.storage.s3.history.state import HistoryState
from kekd_server.storage.s3.history.version_reader import S3VersionReader
from kekd_server.storage.s3.history.versioning import BucketVersioning, Versioning
from kekd_server.storage.s3.listing import ListedObject

_SCAN_INTERVAL: Final = 6 * 3600.0
"""A scan costs a listing request for each 1,000 versions and each 1,000 records."""
_RETRY_INTERVAL: Final = 60.0
_ADVICE: Final = "to keep other programs' versions too"


class S3History:
    """Its methods raise `RequestError`, and the errors of botocore for credentials."""

    def __init__(
        self, client: S3Client, location: S3Location, retention: Retention, holds: S3Holds
    ) -> None:
        self._client = client
        self._holds = holds
        self._records = location.key("_catalog/config/")
        self._folder = location.key("_kekd/history/")
        self.versioning = BucketVersioning(client)
        self._state = HistoryState(retention, self.versioning, HistoryFailures(str(location)))
        self.failures = self._state.failures
        self._next_scan = time.monotonic()
        self.totals = HistoryTotals()
        """Of the versions that kekd keeps, when it last looked at all of them."""

    def open(self, name: IndexName) -> S3RecordHistory:
        return S3RecordHistory(name, self.kept(name), self._state)

    def reader(self, name: IndexName) -> S3VersionReader:
        key = self._records + name.key
        return S3VersionReader(name, self._client, key, self.kept(name), self._state)

    def kept(self, name: IndexName) -> KeptVersions:
        return KeptVersions(self._client, f"{self._folder}{name.key}/")

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion]
    ) -> Sequence[Version]:
        """See `Driver.import_versions`."""
        if not self._state.retention.is_on:
            raise HistoryOffError(name.value)
        kept = self.kept(name)
        missing = find_missing(name, versions, self.reader(name).versions(), etag_of)
        kept.remove_marks()
        for file, record in missing:
            kept.add(file, record)
        self._require_undestroyed(name, [file for file, _ in missing])
        self._state.note_overfull(name)
        return [file.version(len(record)) for file, record in missing]

    def _require_undestroyed(self, name: IndexName, files: Sequence[VersionFile]) -> None:
        kept = self.kept(name)
        if kept.read_folder().marks:
            for file in files:
                kept.remove(file)
            raise StoreUnavailableError(
                f"the versions of index '{name.value}' were not imported: the index was destroyed"
                " in the meantime; retry if you still want them"
            )

    def forget(self, name: IndexName) -> None:
        """Call it when the versions of an index were removed."""
        self._state.forget(name)

    def describe(self) -> str:
        """See `Driver.describe_history`."""
        if self.versioning.known is None:
            return ""
        if self.versioning.known is Versioning.ENABLED:
            return "kept in the bucket's versions"
        own = self._state.retention.describe("under _kekd/history")
        if not self._state.retention.is_on:
            return own
        if self.versioning.known is Versioning.SUSPENDED:
            return f"{own}; the versioning of the bucket is suspended: enable it again {_ADVICE}"
        return f"{own}; enable versioning of the bucket {_ADVICE}"

    def maintain(self) -> Iterator[int]:
        """See `Driver.maintain_history`."""
        if not self._state.retention.is_on:
            return
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + _RETRY_INTERVAL  # if it fails
            yield from self._scan()
            self._next_scan = time.monotonic() + _SCAN_INTERVAL
        for name in self._state.take_overfull():
            yield from self._prune(name)

    def _scan(self) -> Iterator[int]:
        totals = HistoryTotals()
        for page in self._client.list_objects_v2(self._folder):
            yield 0
            for listed in page:
                if VersionFile.is_name(name := listed.key.rpartition("/")[2]):
                    totals = totals.add(VersionFile(name).time_ns, listed.size)
            folders = self._group(page)
            for key, folder in folders.items():
                self._remove_leftovers(key, folder)
            for outdated in self._find_outdated(folders):
                yield from self._prune(outdated)
        self.totals = totals

    def _remove_leftovers(self, key: str, folder: Folder) -> None:
        if folder.leftovers and (name := IndexName.from_key(key)):
            kept = self.kept(name)
            for file in folder.leftovers:
                kept.remove(file)

    def _find_outdated(self, folders: Mapping[str, Folder]) -> Sequence[IndexName]:
        """Returns the indexes whose history has expired versions, or doesn't end with the
        record.
        """
        if not folders:
            return ()
        etags = self._list_etags(min(folders), max(folders))
        return [
            name
            for key, folder in folders.items()
            if not self._is_settled([version.file for version in folder.versions], etags.get(key))
            and (name := IndexName.from_key(key))
        ]

    def _group(self, page: Sequence[ListedObject]) -> Mapping[str, Folder]:
        """Returns the part of each folder that is on the page, by the key of the index."""

        def key_of(listed: ListedObject) -> str:
            return listed.key.removeprefix(self._folder).partition("/")[0]

        return {key: Folder.of(group) for key, group in groupby(page, key=key_of)}

    def _list_etags(self, first: str, last: str) -> Mapping[str, str]:
        """Returns the etags of the records from one key to another."""
        etags: dict[str, str] = {}
        start = len(self._records)
        # S3 lists what comes after a key, and no key is as short as one without its last character.
        for page in self._client.list_objects_v2(
            self._records, start_after=self._records + first[:-1]
        ):
            etags |= {listed.key[start:]: listed.etag for listed in page}
            if page and page[-1].key[start:] >= last:
                break
        return etags

    def _is_settled(self, files: Sequence[VersionFile], etag: str | None) -> bool:
        """`etag`: of the record; None if there is none."""
        if not files:
            return True
        if self.versioning.find() is Versioning.ENABLED:  # they are imported, or from before that
            return not self._state.may_have_expired(files[-1])
        newest_etag = None if files[0].is_deletion else files[0].etag
        return newest_etag == etag and not self._state.find_expired(files)

    def _prune(self, name: IndexName) -> Iterator[int]:
        kept = self.kept(name)
        versions = self.reader(name).versions()
        expired = {version.id for version in self._state.find_expired(versions)}
        if not expired or self._holds.find(name):
            yield 0
            return
        for file, _ in reversed(kept.list()):  # the oldest first
            if file.id in expired:
                kept.remove(file)
                yield 1
        yield 0
