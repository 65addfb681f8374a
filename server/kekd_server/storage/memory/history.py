"""The versions of the envelopes in memory."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from kekd_server.model.errors import HistoryOffError, VersionNotFoundError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import StoredRecord
from kekd_server.storage.etag import etag_of
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.history.totals import HistoryTotals
from kekd_server.storage.history.version import Origin, Version
from kekd_server.storage.history.version_import import ImportedVersion, find_missing


class KeptVersion(NamedTuple):
    version: Version
    record: bytes


class MemoryHistory:
    """Use it while you hold the lock of the driver."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self._kept: dict[str, list[KeptVersion]] = {}
        """Newest first."""
        self._numbers = count(1)

    def add(self, name: IndexName, origin: Origin, record: bytes | None) -> None:
        """`record`: None for a deletion."""
        if not self.retention.is_on:
            return
        kept = self._kept.setdefault(name.key, [])
        earliest = kept[0].version.time_ns + 1 if kept else 0
        version = Version(
            id=str(next(self._numbers)),
            event=origin.event,
            time_ns=max(time.time_ns(), earliest),
            etag="" if record is None else etag_of(record),
            size=len(record or b""),
            caller=origin.caller,
        )
        kept.insert(0, KeptVersion(version, record or b""))
        self.prune(name.key)

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion]
    ) -> Sequence[Version]:
        """See `Driver.import_versions`."""
        if not self.retention.is_on:
            raise HistoryOffError(name.value)
        added = [
            KeptVersion(replace(file.version(len(record)), id=str(next(self._numbers))), record)
            for file, record in find_missing(name, versions, self.versions(name), etag_of)
        ]
        if added:
            self._kept.setdefault(name.key, []).extend(added)
            self.prune(name.key)
        return [version for version, _ in added]

    def versions(self, name: IndexName) -> Sequence[Version]:
        """Returns all versions of the index, newest first."""
        return [kept.version for kept in self._kept.get(name.key, ())]

    def keys(self) -> Iterable[str]:
        """Returns the keys of the indexes that have versions."""
        return self._kept.keys()

    def read(self, name: IndexName, version_id: str) -> StoredRecord:
        """Raises `VersionNotFoundError`."""
        for version, record in self._kept.get(name.key, ()):
            if version.id == version_id and not version.is_deletion:
                return StoredRecord(record, version.etag)
        is_deletion = any(version.id == version_id for version in self.versions(name))
        raise VersionNotFoundError(name.value, version_id, is_deletion=is_deletion)

    def add_to(self, totals: HistoryTotals, key: str) -> HistoryTotals:
        """Adds the versions of a key."""
        for version, _ in self._kept.get(key, ()):
            totals = totals.add(version.time_ns, version.size)
        return totals

    def remove(self, name: IndexName) -> Sequence[KeptVersion]:
        """Removes all versions, and returns those that have a record, newest first."""
        return [kept for kept in self._kept.pop(name.key, ()) if not kept.version.is_deletion]

    def prune(self, key: str) -> int:
        """Removes the versions of a key that have expired, and returns their number."""
        kept = self._kept.get(key, [])
        versions = [version for version, _ in kept]
        expired = len(self.retention.find_expired(versions, time.time_ns()))
        del kept[len(kept) - expired :]
        if not kept:
            self._kept.pop(key, None)
        return expired
