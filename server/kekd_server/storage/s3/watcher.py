"""Notices changes to a bucket, from the change log and from listings."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.listing import ListedObject
from kekd_server.storage.s3.log_reader import S3LogReader
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import Changes, RunInThread

LOG_INTERVAL: Final = 1.0
_INTERVAL_WITHOUT_LOG: Final = 30.0
_GET_THREADS: Final = 8
_CHANGES_PER_YIELD: Final = 1000
_LISTING_TIMEOUT: Final = 300.0
"""Enough for some millions of envelopes."""
_PAUSE_FACTOR: Final = 9
"""Seconds that a listing pauses for each second of processor time that it takes, so that it slows
other calls by a tenth at most."""

Stamps = dict[str, int]
"""By key, a hash that differs after every write. A million take some 200 MB."""
_OWN_WRITE: Final = 0

_log = logging.getLogger(__name__)


class S3Watcher:
    """Compares the keystore with what it knew: each second the envelopes that other daemons logged,
    and at a longer interval a listing of them all, because other programs log nothing.

    A listing takes one request per 1,000 envelopes. Several changes to one envelope between two
    comparisons are one change. A new envelope counts as created, even if it was pushed.
    """

    def __init__(
        self, driver: S3Driver, log_reader: S3LogReader, store_name: str, list_interval: float
    ) -> None:
        self._driver = driver
        self._log_reader = log_reader
        self._store_name = store_name
        self._list_interval = list_interval
        self._log_interval = min(LOG_INTERVAL, list_interval)
        self._next_listing = 0.0
        self._stamps: Stamps = {}
        self._own_writes: set[str] = set()
        self.timeout = list_interval + _LISTING_TIMEOUT

    def note_write(self, name: IndexName) -> None:
        """Adds what this daemon wrote to what the next listing is compared with. Otherwise, it
        would not show that another program deleted a new envelope.
        """
        self._own_writes.add(name.key)

    async def poll(self, run_in_thread: RunInThread) -> AsyncGenerator[Changes, None]:
        await run_in_thread(self._start)
        yield []
        while True:
            await asyncio.sleep(self._log_interval)
            try:
                changes = await run_in_thread(partial(self._find_changes, self._take_own_writes()))
            except KekdError as error:
                await self._recover(error, run_in_thread)
                yield None
                continue
            for start in range(0, len(changes) or 1, _CHANGES_PER_YIELD):
                yield changes[start : start + _CHANGES_PER_YIELD]

    async def _recover(self, error: KekdError, run_in_thread: RunInThread) -> None:
        """Waits until the watcher can start again."""
        _log.warning(
            "%s: cannot poll for changes: %s; watchers get a resync when it works again",
            self._store_name,
            error,
        )
        is_started = False
        while not is_started:
            await asyncio.sleep(self._log_interval)
            with suppress(KekdError):
                await run_in_thread(self._start)
                is_started = True
        _log.warning("%s: polls for changes again", self._store_name)

    def _start(self) -> None:
        """Finds the end of the log first, so that no entry is missed."""
        with self._driver.translate_errors():
            self._log_reader.start()
        self._stamps = {}
        self._compare_all()

    def _take_own_writes(self) -> Collection[str]:
        taken, self._own_writes = self._own_writes, set()
        return taken

    def _find_changes(self, own_writes: Collection[str]) -> list[Change]:
        for key in own_writes:
            self._stamps.setdefault(key, _OWN_WRITE)
        if time.monotonic() >= self._next_listing:
            return self._compare_all()
        try:
            with self._driver.translate_errors():
                keys = self._log_reader.read()
        except KekdError:
            # The entries are still there at the next try. A listing shows whether S3 is down.
            self._next_listing = min(self._next_listing, time.monotonic() + _INTERVAL_WITHOUT_LOG)
            return []
        return self._compare_all() if keys is None else self._compare_some(keys)

    def _compare_all(self) -> list[Change]:
        """Lists the keystore, and compares it with the stamps."""
        interval = self._list_interval
        if not self._log_reader.is_on:
            interval = min(interval, _INTERVAL_WITHOUT_LOG)
        self._next_listing = time.monotonic() + interval
        previous, self._stamps = self._stamps, {}
        changes = [
            change
            for version in self._scan_objects()
            if (change := self._update(version, previous.pop(version.key, None)))
        ]
        deleted = filter(None, map(IndexName.from_key, previous))
        changes += (Change(ChangeKind.DELETED, name) for name in deleted)
        return changes

    def _scan_objects(self) -> Iterator[ListedObject]:
        started = time.thread_time()
        for page in self._driver.scan_objects():
            yield from page
            time.sleep(_PAUSE_FACTOR * (time.thread_time() - started))
            started = time.thread_time()

    def _compare_some(self, keys: Collection[str]) -> list[Change]:
        """Gets the envelopes with these keys, and compares them with the stamps."""
        names = list(filter(None, map(IndexName.from_key, keys)))
        with ThreadPoolExecutor(_GET_THREADS) as threads:
            versions = list(threads.map(self._driver.find_object, names))
        changes: list[Change | None] = []
        for name, version in zip(names, versions, strict=True):
            previous = self._stamps.pop(name.key, None)
            if version:
                changes.append(self._update(version, previous))
            elif previous is not None:
                changes.append(Change(ChangeKind.DELETED, name))
        return list(filter(None, changes))

    def _update(self, version: ListedObject, previous: int | None) -> Change | None:
        stamp = self._stamps[version.key] = hash((version.etag, version.modified))
        if stamp == previous or not (name := IndexName.from_key(version.key)):
            return None
        kind = ChangeKind.CREATED if previous is None else ChangeKind.PUSHED
        return Change(kind, name, version.etag)
