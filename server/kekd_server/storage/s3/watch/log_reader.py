"""Reads what other daemons wrote from the change log."""

import time
from collections.abc import Callable, Collection
from typing import Final

from kekd_server.storage.s3.concurrent_requests import MAX_REQUESTS, map_requests
from kekd_server.storage.s3.watch.change_log import MAX_KEYS, S3ChangeLog

_GAP_CHECK_INTERVAL: Final = 30.0
"""Seconds. A gap is rare: the reader was stuck while others wrote a thousand entries."""


class S3LogReader:
    """Gets the entries after the last one that it read. Raises the errors of `S3ChangeLog`."""

    def __init__(self, change_log: S3ChangeLog, is_own: Callable[[int], bool]) -> None:
        """`is_own`: whether this daemon wrote an entry, which the reader skips."""
        self._change_log = change_log
        self._is_own = is_own
        self._last = 0
        self._next_gap_check = 0.0

    @property
    def is_on(self) -> bool:
        return self._change_log.is_on

    def start(self) -> None:
        """Makes `read` return the keys that are logged from now on."""
        self._last = self._change_log.find_last()
        self._next_gap_check = time.monotonic() + _GAP_CHECK_INTERVAL

    def read(self) -> set[str] | None:
        """Returns the keys that were logged since the last call. Returns None if there are many, or
        if entries are missing: then a listing shows what changed.
        """
        if not self.is_on:
            return set()
        keys = self._read_entries()
        is_check_due = self.is_on and time.monotonic() >= self._next_gap_check
        if len(keys) <= MAX_KEYS and not (is_check_due and self._has_gap()):
            return keys
        self.start()
        return None

    def _read_entries(self) -> set[str]:
        """Gets one entry at a time, and more at once the more there are: while there is no new one,
        this is one request, and few are for entries that don't exist yet.
        """
        keys: set[str] = set()
        last = self._last
        entry: Collection[str] | None = ()
        while entry is not None and len(keys) <= MAX_KEYS:
            count = min((last - self._last) // 2 or 1, MAX_REQUESTS)
            for entry in map_requests(self._read_entry, range(last + 1, last + 1 + count)):
                if entry is None:
                    break
                last += 1
                keys.update(entry)
        self._last = last  # only now, so that a failure loses no entry
        return keys

    def _has_gap(self) -> bool:
        self._next_gap_check = time.monotonic() + _GAP_CHECK_INTERVAL
        following = self._change_log.find_first(after=self._last)
        if following is None:
            return self._last > 0 and self._change_log.read(self._last) is None  # it was emptied
        return following != self._last + 1

    def _read_entry(self, number: int) -> Collection[str] | None:
        return () if self._is_own(number) else self._change_log.read(number)
