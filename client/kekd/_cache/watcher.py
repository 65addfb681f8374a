"""Watches a location in the background, and reports the changes to its cache."""

import asyncio
import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import aclosing, suppress
from typing import Final

from kekd import _operations as operations
from kekd._cache.envelope_cache import EnvelopeCache
from kekd._cache.manager import CacheManager, OnChange
from kekd._models import Change, Event, Resync, StorageConfig
from kekd._transport import watch
from kekd._transport.channel import Connection, Connector
from kekd._transport.fork import stop_before_fork
from kekd._transport.timeouts import DEFAULT_TIMEOUT
from kekd.errors import EnvelopeError

_log = logging.getLogger(__name__)

_MIN_BACKOFF: Final = 0.1
_MAX_BACKOFF: Final = 5.0
"""Seconds between two attempts to watch, so that not all clients reconnect to a restarted daemon at
once. gRPC's own retries come on top."""
_CLOSE_TIMEOUT: Final = 1.0
"""Maximum seconds for which a fork waits for a watch to end, which takes milliseconds."""


class CacheWatcher(ABC):
    """The common part of both watchers, which differ in how they wait.

    A watcher has a connection of its own, so that it outlives the connection of the client's calls.
    """

    def __init__(
        self,
        connector: Connector,
        location: StorageConfig | None,
        cache: EnvelopeCache,
        on_change: OnChange,
    ) -> None:
        self._connector = connector
        self._operation = operations.watch(location)
        self._cache = cache
        self._on_change = on_change
        self._backoffs = _backoffs()
        self._is_lost = False
        self._start()

    @abstractmethod
    def _start(self) -> None:
        """Starts watching in the background."""

    def _handle(self, event: Event | None) -> None:
        if isinstance(event, Resync):
            self._cache.on_resync()
            self._backoffs = _backoffs()
            self._is_lost = False
        elif isinstance(event, Change):
            self._cache.invalidate(event.index_name)
            # After the cache, so that a listener that reads again doesn't get the old envelope.
            self._on_change(event.index_name)
        self._cache.on_heartbeat()

    def _report_loss(self, error: Exception) -> None:
        """Logs the first failure since the watch last worked."""
        if self._is_lost:
            return
        self._is_lost = True
        why = error if isinstance(error, EnvelopeError) else f"{type(error).__name__}: {error}"
        _log.warning("cache not in use: %s (trying again; calls go to the daemon meanwhile)", why)


class ThreadCacheWatcher(CacheWatcher):
    """For `Client`. Keeps neither the client nor the process alive."""

    def _start(self) -> None:
        self._is_over = threading.Event()
        self._connection = self._connector.connect()
        self._thread = threading.Thread(target=self._run, daemon=True, name="kekd watch")
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._connection.close()

    def abandon(self) -> None:
        self._is_over.set()

    def wait_closed(self) -> None:
        self._thread.join(_CLOSE_TIMEOUT)

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                self._read()
            except Exception as error:  # noqa: BLE001  (after any failure, the watch is lost)
                if not self._is_over.is_set():
                    self._report_loss(error)
            finally:
                self._cache.on_disconnect()
            self._is_over.wait(next(self._backoffs))
        self._connection.close()

    def _read(self) -> None:
        self._connection = self._connector.connect(self._connection)
        if self._is_over.is_set():  # `close` has closed the previous connection
            return
        for event in watch.events(
            self._connection,
            self._operation,
            DEFAULT_TIMEOUT,
            self._connector.address,
            abandoned=self._is_over,
        ):
            self._handle(event)


class ThreadCacheManager(CacheManager[ThreadCacheWatcher]):
    """The caches of a `Client`.

    A fork ends their watches because gRPC can't be forked during a call. The next read, in either
    process, starts another watch.
    """

    def __init__(self, connector: Connector, max_staleness: float) -> None:
        super().__init__(max_staleness, self._start)
        self._connector = connector

    def _start(
        self, location: StorageConfig | None, cache: EnvelopeCache, on_change: OnChange
    ) -> ThreadCacheWatcher:
        watcher = ThreadCacheWatcher(self._connector, location, cache, on_change)
        # gRPC registers its own fork handler with its first channel, which exists now.
        stop_before_fork(self._stop)
        return watcher

    def _stop(self) -> None:
        for watcher in self.close():
            watcher.wait_closed()


class AsyncCacheWatcher(CacheWatcher):
    """For `AsyncClient`. A task of the event loop that made the first read."""

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        if not self._loop.is_closed():
            self._task.cancel()

    def abandon(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, which has ended the task
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def wait_closed(self) -> None:
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        connection = None
        try:
            while True:
                try:
                    connection = self._connector.connect_async(connection)
                    await self._read(connection)
                except Exception as error:  # noqa: BLE001  (after any failure, the watch is lost)
                    self._report_loss(error)
                finally:
                    self._cache.on_disconnect()
                await asyncio.sleep(next(self._backoffs))
        finally:
            if connection:
                await connection.channel.close()

    async def _read(self, connection: Connection) -> None:
        events = watch.events_async(
            connection, self._operation, DEFAULT_TIMEOUT, self._connector.address
        )
        async with aclosing(events):
            async for event in events:
                self._handle(event)


def _backoffs() -> Iterator[float]:
    backoff = _MIN_BACKOFF
    while True:
        yield backoff * random.uniform(0.5, 1)  # noqa: S311  (no secret)
        backoff = min(2 * backoff, _MAX_BACKOFF)
