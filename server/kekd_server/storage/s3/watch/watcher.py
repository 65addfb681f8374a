"""Notices changes to a bucket, from the change log and from listings."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.s3.concurrent_requests import map_requests
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.listing import ListedObject
from kekd_server.storage.s3.watch.known_objects import KnownObjects
from kekd_server.storage.s3.watch.log_reader import S3LogReader
from kekd_server.storage.watch.event import Change
from kekd_server.storage.watch.hub import Changes, RunInThread

LOG_INTERVAL: Final = 1.0
_INTERVAL_WITHOUT_LOG: Final = 30.0
_CHANGES_PER_YIELD: Final = 1000
_LISTING_TIMEOUT: Final = 300.0
"""Enough for some millions of envelopes, which take 100 s each."""
_PAUSE_FACTOR: Final = 19
"""Seconds that a listing pauses for each second of processor time that it takes, so that it slows
other calls little. A listing of 10,000 envelopes takes about a second."""

_log = logging.getLogger(__name__)


class S3Watcher:
    """Compares the keystore with what it knew: each second the envelopes that other daemons logged,
    and at a longer interval a listing of them all, because other programs log nothing.

    A listing takes one request per 1,000 envelopes, and pauses after each. Meanwhile, the watcher
    still reads the log each second. Several changes to one envelope between two comparisons are one
    change. A new envelope counts as created, even if it was pushed.
    """

    def __init__(
        self, driver: S3Driver, log_reader: S3LogReader, store_name: str, list_interval: float
    ) -> None:
        self._driver = driver
        self._log_reader = log_reader
        self._store_name = store_name
        self._list_interval = list_interval
        self._log_interval = min(LOG_INTERVAL, list_interval)
        self._next_read = self._next_listing = self._next_page = 0.0
        self._pages: Iterator[Sequence[ListedObject]] | None = None
        """The rest of the listing, during one."""
        self._known = KnownObjects()
        self._own_writes: set[str] = set()
        self.timeout = list_interval + _LISTING_TIMEOUT

    def note_write(self, name: IndexName) -> None:
        """Adds what this daemon wrote to what the next listing is compared with. Otherwise, it
        would not show that another program deleted a new envelope.
        """
        self._own_writes.add(name.key)

    async def poll(self, run_in_thread: RunInThread) -> AsyncGenerator[Changes, None]:
        await self._start(run_in_thread)
        yield []
        while True:
            await _sleep_until(min(self._next_read, self._next_list_step))
            try:
                changes = await run_in_thread(partial(self._find_changes, self._take_own_writes()))
            except KekdError as error:
                await self._recover(error, run_in_thread)
                yield None
                continue
            for start in range(0, len(changes) or 1, _CHANGES_PER_YIELD):
                yield changes[start : start + _CHANGES_PER_YIELD]

    async def _start(self, run_in_thread: RunInThread) -> None:
        """Makes the first listing."""
        await run_in_thread(self._reset)
        while self._pages:
            await _sleep_until(self._next_page)
            await run_in_thread(self._list_page)

    async def _recover(self, error: KekdError, run_in_thread: RunInThread) -> None:
        """Waits until the watcher can start again."""
        _log.warning(
            "%s: cannot poll for changes: %s; watchers get a resync when it works again",
            self._store_name,
            error,
        )
        is_started = False
        while not is_started:
            await _sleep_until(time.monotonic() + self._log_interval)
            with suppress(KekdError):
                await self._start(run_in_thread)
                is_started = True
        _log.warning("%s: polls for changes again", self._store_name)

    def _reset(self) -> None:
        """Finds the end of the log first, so that no entry is missed."""
        with self._driver.translate_errors():
            self._log_reader.start()
        self._known = KnownObjects()
        self._pages = self._begin_listing()

    @property
    def _next_list_step(self) -> float:
        return self._next_page if self._pages else self._next_listing

    def _take_own_writes(self) -> Collection[str]:
        taken, self._own_writes = self._own_writes, set()
        return taken

    def _find_changes(self, own_writes: Collection[str]) -> list[Change]:
        for key in own_writes:
            self._known.add_own_write(key)
        if self._next_list_step < self._next_read:
            return self._list_page()
        self._next_read = time.monotonic() + self._log_interval
        changes = self._refresh(self._read_log())
        self._next_read = max(self._next_read, self._earliest_poll())
        return changes

    def _read_log(self) -> Collection[str]:
        """Returns the keys that other daemons logged. If it can't, a listing follows."""
        try:
            with self._driver.translate_errors():
                keys = self._log_reader.read()
        except KekdError:
            # The entries are still there at the next try. A listing shows whether S3 is down.
            self._next_listing = min(self._next_listing, time.monotonic() + _INTERVAL_WITHOUT_LOG)
            return ()
        if keys is None:
            self._next_listing = 0.0  # after the current one, which may have passed the changes
            return ()
        return keys

    def _refresh(self, keys: Collection[str]) -> list[Change]:
        """Gets the envelopes with these keys."""
        names = list(filter(None, map(IndexName.from_key, keys)))
        versions = map_requests(self._driver.find_object, names)
        return list(filter(None, map(self._known.refresh, names, versions)))

    def _begin_listing(self) -> Iterator[Sequence[ListedObject]]:
        interval = self._list_interval
        if not self._log_reader.is_on:
            interval = min(interval, _INTERVAL_WITHOUT_LOG)
        self._next_listing = time.monotonic() + interval
        self._next_page = 0.0
        self._known.begin_listing()
        return self._driver.scan_objects()

    def _list_page(self) -> list[Change]:
        """Compares the next page of the listing. After the last one, it ends the listing."""
        started = time.thread_time()
        if not self._pages:
            self._pages = self._begin_listing()
        page = next(self._pages, None)
        if page is None:
            self._pages = None
            self._next_listing = max(self._next_listing, self._earliest_poll())
            return self._known.end_listing()
        changes = self._known.add_page(page)
        self._next_page = time.monotonic() + _PAUSE_FACTOR * (time.thread_time() - started)
        return changes

    def _earliest_poll(self) -> float:
        """Returns until when to pause after a poll that took long."""
        return time.monotonic() + self._log_interval / 2


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(moment - time.monotonic(), 0.0))
