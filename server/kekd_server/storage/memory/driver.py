"""Envelopes in the memory of this process, for tests and for a first try."""

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from kekd_server.model.errors import (
    EnvelopeExistsError,
    EnvelopeHeldError,
    EnvelopeNotFoundError,
    EtagMismatchError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import (
    HistoryStep,
    NameRange,
    StoredRecord,
    ValidateVersion,
    WriteResult,
)
from kekd_server.storage.etag import etag_of
from kekd_server.storage.history.destruction import DestroyedVersion, Destruction
from kekd_server.storage.history.failures import HistoryFailures
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.retention import DEFAULT_RETENTION, Retention
from kekd_server.storage.history.totals import HistoryTotals
from kekd_server.storage.history.version import Origin, Version, VersionEvent
from kekd_server.storage.history.version_import import ImportedVersion
from kekd_server.storage.history.version_page import last_with_record, page_of
from kekd_server.storage.memory.history import MemoryHistory
from kekd_server.storage.sorted_keys import names_in_order
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.steps import without_pauses

_SCAN_INTERVAL: Final = 60.0
"""Writes remove what exceeds the number. A scan removes what is too old."""


class MemoryDriver:
    """A dict and its sorted keys under a lock. Nothing outlives the process."""

    recognizes_attempts = False

    def __init__(self, retention: Retention = DEFAULT_RETENTION) -> None:
        self.history_failures = HistoryFailures("memory")
        self._lock = threading.Lock()
        self._records: dict[str, bytes] = {}
        self._keys: list[str] = []
        self._history = MemoryHistory(retention)
        self._holds: dict[str, Hold] = {}
        self._totals = HistoryTotals()
        """When the last scan ended."""
        self._next_scan = time.monotonic()

    def open(self, *, create: bool = False) -> bool:  # noqa: ARG002
        return False

    def check(self) -> None:
        """Always succeeds."""

    def check_writes(self) -> None:
        """Always succeeds."""

    def find_limitations(self) -> str:
        return ""

    def probe(self) -> None:
        """Always succeeds."""

    def get(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord:  # noqa: ARG002
        stored = self.get_cached(name)
        if stored is None:
            raise EnvelopeNotFoundError(name.value)
        return stored

    def get_cached(self, name: IndexName) -> StoredRecord | None:
        record = self._records.get(name.key)
        return None if record is None else StoredRecord(record, etag_of(record), proof=record)

    def confirm(self, name: IndexName, proof: bytes) -> bool:
        """The proof is the record itself."""
        return self._records.get(name.key) is proof

    def confirm_all(self, names: Sequence[IndexName], proofs: Sequence[bytes | None]) -> list[bool]:
        return [
            proof is not None and self.confirm(name, proof)
            for name, proof in zip(names, proofs, strict=True)
        ]

    @without_pauses
    def create(
        self,
        name: IndexName,
        record: bytes,
        *,
        origin: Origin,
        attempt: WriteAttempt | None,  # noqa: ARG002
    ) -> str:
        with self._lock:
            return self._create(name, record, origin)

    @without_pauses
    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        origin: Origin,
        attempt: WriteAttempt | None,  # noqa: ARG002
    ) -> WriteResult:
        with self._lock:
            return self._put(name, record, if_etag, origin)

    @without_pauses
    def restore(  # noqa: PLR0913
        self,
        name: IndexName,
        version_id: str,
        *,
        validate: ValidateVersion,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,  # noqa: ARG002
    ) -> WriteResult:
        with self._lock:
            stored = self._history.read(name, version_id)
            validate(version_id, stored)
            return self._put(name, stored.record, if_etag, Origin(VersionEvent.RESTORED, caller))

    @without_pauses
    def undelete(
        self,
        name: IndexName,
        *,
        validate: ValidateVersion,
        caller: str,
        attempt: WriteAttempt | None,  # noqa: ARG002
    ) -> str:
        with self._lock:
            last = last_with_record(self._history.versions(name), name)
            stored = self._history.read(name, last.id)
            validate(last.id, stored)
            return self._create(name, stored.record, Origin(VersionEvent.UNDELETED, caller))

    @without_pauses
    def delete(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,  # noqa: ARG002
    ) -> str | None:
        with self._lock:
            previous_etag = self._etag(name)
            if previous_etag is None:
                return None
            if if_etag is not None and if_etag != previous_etag:
                raise EtagMismatchError(name.value)
            self._require_free(name)
            self._remove(name)
            self._history.add(name, Origin(VersionEvent.DELETED, caller), None)
            return previous_etag

    def list(
        self,
        names: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,  # noqa: ARG002
        show_deleted: bool = False,
    ) -> list[IndexName]:
        with self._lock:
            keys = self._keys
            if show_deleted:
                keys = sorted({*keys, *self._history.keys()})
            return list(islice(names_in_order(keys, names, after), limit))

    def list_versions(self, name: IndexName, *, after: str, limit: int) -> Sequence[Version]:
        with self._lock:
            return page_of(self._history.versions(name), name, after, limit)

    def get_version(self, name: IndexName, version_id: str) -> StoredRecord:
        with self._lock:
            return self._history.read(name, version_id)

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion]
    ) -> Sequence[Version]:
        with self._lock:
            self._require_free(name)
            return self._history.import_versions(name, versions)

    def destroy(
        self, name: IndexName, *, if_etag: str | None, digest: Callable[[bytes], str]
    ) -> Destruction:
        with self._lock:
            etag, record = self._etag(name), self._records.get(name.key)
            if None not in (if_etag, etag) and if_etag != etag:
                raise EtagMismatchError(name.value)
            self._require_free(name)
            destroyed = [
                DestroyedVersion(version.id, version.etag, digest(record))
                for version, record in self._history.remove(name)
            ]
            if record is not None:
                self._remove(name)
                if etag not in [version.etag for version in destroyed]:  # without a history
                    destroyed.insert(0, DestroyedVersion("", etag_of(record), digest(record)))
        return Destruction("", destroyed, [])

    def find_hold(self, name: IndexName) -> Hold | None:
        return self._holds.get(name.key)

    def hold(self, name: IndexName, hold: Hold) -> None:
        with self._lock:
            self._holds[name.key] = hold

    def release(self, name: IndexName) -> bool:
        with self._lock:
            return self._holds.pop(name.key, None) is not None

    def notice_change(self, name: IndexName) -> bool:  # noqa: ARG002
        """No other program writes here."""
        return False

    def history_totals(self) -> HistoryTotals:
        return self._totals

    def schedule_scan(self) -> None:
        """Does nothing: the history doesn't follow changes."""

    def describe_history(self) -> str:
        return self._history.retention.describe("in memory")

    def maintain_history(self) -> Iterator[HistoryStep]:
        if time.monotonic() < self._next_scan:
            return
        self._next_scan = time.monotonic() + _SCAN_INTERVAL
        with self._lock:
            keys = list(self._history.keys())
        totals = HistoryTotals()
        for key in keys:
            with self._lock:
                removed = 0 if key in self._holds else self._history.prune(key)
                totals = self._history.add_to(totals, key)
            yield removed  # without the lock, as the next step may come late
        self._totals = totals

    def close(self) -> None:
        self._records.clear()

    def _create(self, name: IndexName, record: bytes, origin: Origin) -> str:
        if name.key in self._records:
            raise EnvelopeExistsError(name.value)
        self._require_free(name)
        return self._set(name, record, origin)

    def _put(
        self, name: IndexName, record: bytes, if_etag: str | None, origin: Origin
    ) -> WriteResult:
        previous_etag = self._etag(name)
        if if_etag is not None and if_etag != previous_etag:
            raise EtagMismatchError(name.value)
        self._require_free(name)
        return WriteResult(self._set(name, record, origin), previous_etag)

    def _etag(self, name: IndexName) -> str | None:
        record = self._records.get(name.key)
        return None if record is None else etag_of(record)

    def _require_free(self, name: IndexName) -> None:
        if hold := self._holds.get(name.key):
            raise EnvelopeHeldError(name.value, hold.reason)

    def _remove(self, name: IndexName) -> None:
        del self._records[name.key]
        del self._keys[bisect_left(self._keys, name.key)]

    def _set(self, name: IndexName, record: bytes, origin: Origin) -> str:
        if name.key not in self._records:
            insort(self._keys, name.key)
        self._records[name.key] = record
        self._history.add(name, origin, record)
        return etag_of(record)
