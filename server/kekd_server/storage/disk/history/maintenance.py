"""Keeps the histories of a keystore folder up to date."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk.history.history import DiskHistory
from kekd_server.storage.disk.history.holds import DiskHolds
from kekd_server.storage.disk.os_errors import OsErrorTranslator
from kekd_server.storage.disk.records import DiskRecords
from kekd_server.storage.disk.write_locks import WriteLocks
from kekd_server.storage.driver import HistoryStep
from kekd_server.storage.history.failures import HistoryFailures
from kekd_server.storage.history.totals import HistoryTotals

_SCAN_INTERVAL: Final = 3600.0
_MIN_SCAN_INTERVAL: Final = 10.0
"""Between two scans, also while the first one fails or misses changes."""


class HistoryMaintenance:
    """Adds versions that other programs wrote, removes expired ones, and finds held records that
    other programs changed.
    """

    def __init__(  # noqa: PLR0913
        self,
        records: DiskRecords,
        *,
        locks: WriteLocks,
        holds: DiskHolds,
        history: DiskHistory,
        failures: HistoryFailures,
        translate_os_errors: OsErrorTranslator,
    ) -> None:
        self._records = records
        self._locks = locks
        self._holds = holds
        self._history = history
        self._failures = failures
        self._translate_os_errors = translate_os_errors
        self._next_scan = self._earliest_scan = time.monotonic()
        self.totals = HistoryTotals()
        """As of the last scan."""

    def notice_change(self, name: IndexName) -> bool:
        """See `Driver.notice_change`."""
        with self._translate_os_errors:
            own_etag = self._history.find_own_write(name)
            # It may have been overwritten in place, even within one tick of the clock.
            if own_etag is not None and own_etag == self._records.find_etag(name):
                return False
            if not self._history.is_settled(name):
                with self._locks.hold(name):
                    self._history.catch_up(name)
            return self._is_breached(name)

    def run(self) -> Iterator[HistoryStep]:
        """See `Driver.maintain_history`."""
        with self._translate_os_errors:
            if self._history.retention.is_on:
                for name in self._outdated_names():
                    yield self._maintain(name) if name else 0
            else:  # it follows no changes
                for name in self._holds.names():
                    yield name if self._is_breached(name) else 0

    def schedule_scan(self) -> None:
        """See `Driver.schedule_scan`."""
        self._next_scan = min(self._next_scan, self._earliest_scan)

    def _outdated_names(self) -> Iterator[IndexName | None]:
        """Yields the names whose history has too many versions. Once an hour, also scans all
        records and histories: yields each name that is held or needs a change, and None for any
        other. Takes no lock. Raises OSError.
        """
        now = time.monotonic()
        yield from self._history.overfull_names()
        if now >= self._next_scan:
            self._earliest_scan = now + _MIN_SCAN_INTERVAL
            self._next_scan = now + _SCAN_INTERVAL
            try:
                yield from self._scan()
            except BaseException:
                self.schedule_scan()
                raise

    def _scan(self) -> Iterator[IndexName | None]:
        totals = HistoryTotals()
        for name in self._history.names():
            needs_change = self._holds.is_held(name) or not self._history.is_settled(name)
            yield name if needs_change else None
            with suppress(OSError):  # it is damaged, or a version was removed in the meantime
                for version in self._history.open(name).versions():
                    totals = totals.add(version.time_ns, version.size)
        self.totals = totals

    def _maintain(self, name: IndexName) -> HistoryStep:
        try:
            with self._translate_os_errors, self._locks.hold(name):
                self._history.catch_up(name)
                if not self._holds.is_held(name):
                    return self._history.prune(name)
            with self._translate_os_errors:
                return name if self._is_breached(name) else 0
        except KekdError as error:
            self._failures.report(error, name)
            return 0

    def _is_breached(self, name: IndexName) -> bool:
        """Compares the etag, which also works after the clock was set back, and the history, which
        also shows a change that was undone.
        """
        if not self._holds.is_held(name):
            return False
        with self._locks.hold_if_writable(name):
            hold = self._holds.find(name)
            if hold is None:
                return False
            if hold.etag is not None and hold.etag != (self._records.find_etag(name) or ""):
                return True
            return self._history.has_foreign_change(name, since_ns=hold.time_ns)
