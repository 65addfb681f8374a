"""Notices changes to a bucket by listing it at an interval."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final, NamedTuple

from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import Changes, RunInThread

_CHANGES_PER_YIELD: Final = 1000
_LISTING_TIMEOUT: Final = 300.0
"""Enough for some millions of envelopes."""

_log = logging.getLogger(__name__)


class _Comparison(NamedTuple):
    changes: Sequence[Change]
    stamps: dict[str, int]
    """By key, a hash that differs after every write. A million take some 200 MB."""


class S3Watcher:
    """Lists the keystore at an interval, and compares each listing with the previous one.

    A listing takes one request per 1,000 envelopes. Several changes to one envelope between two
    listings are one change. A new envelope counts as created, even if it was pushed.
    """

    def __init__(self, driver: S3Driver, store_name: str, poll_interval: float) -> None:
        self._driver = driver
        self._store_name = store_name
        self._poll_interval = poll_interval
        self.timeout = poll_interval + _LISTING_TIMEOUT

    async def poll(self, run_in_thread: RunInThread) -> AsyncGenerator[Changes, None]:
        stamps = (await run_in_thread(partial(self._compare, {}))).stamps
        yield []
        while True:
            await asyncio.sleep(self._poll_interval)
            try:
                changes, stamps = await run_in_thread(partial(self._compare, stamps))
            except KekdError as error:
                _log.warning(
                    "%s: cannot poll for changes: %s; watchers get a resync when it works again",
                    self._store_name,
                    error,
                )
                stamps = (await self._wait_for_listing(run_in_thread)).stamps
                _log.warning("%s: polls for changes again", self._store_name)
                yield None
                continue
            for start in range(0, len(changes) or 1, _CHANGES_PER_YIELD):
                yield changes[start : start + _CHANGES_PER_YIELD]

    async def _wait_for_listing(self, run_in_thread: RunInThread) -> _Comparison:
        while True:
            await asyncio.sleep(self._poll_interval)
            try:
                return await run_in_thread(partial(self._compare, {}))
            except KekdError:
                continue

    def _compare(self, previous: dict[str, int]) -> _Comparison:
        """Lists the keystore. Empties `previous`."""
        changes, stamps = [], {}
        for key, etag, modified in self._driver.list_versions():
            stamps[key] = hash((etag, modified))
            stamp = previous.pop(key, None)
            if stamp != stamps[key] and (name := IndexName.from_key(key)):
                kind = ChangeKind.PUSHED if stamp else ChangeKind.CREATED
                changes.append(Change(kind, name, etag))
        deleted = filter(None, map(IndexName.from_key, previous))
        changes += (Change(ChangeKind.DELETED, name) for name in deleted)
        return _Comparison(changes, stamps)
