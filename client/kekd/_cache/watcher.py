"""What reads the watch of a location, in the background, and tells its cache."""

import asyncio
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from typing import Final

from kekd import _operations as operations
from kekd._cache.envelope_cache import Cache
from kekd._cache.manager import Caches
from kekd._models import Change, Event, Resync, StorageConfig
from kekd._transport import channel, watch
from kekd._transport.fork import stop_before_fork

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts, so that a daemon that restarts isn't met by all its clients at
once. gRPC's own retries come on top."""
_END_SECONDS: Final = 1.0
"""How long a fork waits for a watch to end, which takes milliseconds."""


class CacheWatcher(ABC):
    """What both kinds of feed do; they differ in how they wait.

    A feed has a connection of its own, and so the client's other calls may be closed without it.
    """

    def __init__(
        self,
        dialer: channel.Dialer,
        location: StorageConfig | None,
        cache: Cache,
        told: Callable[[str], None],
    ) -> None:
        self._dialer = dialer
        self._watch = operations.watch(location)
        self._cache = cache
        self._told = told
        self._pauses = _pauses()
        self._start()

    @abstractmethod
    def _start(self) -> None:
        """Begins to read, in the background."""

    def _take(self, event: Event | None) -> None:
        if isinstance(event, Resync):
            self._cache.begin()
            self._pauses = _pauses()
        elif isinstance(event, Change):
            self._cache.change(event.index_name)
            # Whoever reads it again because of this must not meet the old one in the cache.
            self._told(event.index_name)
        self._cache.hear()


class ThreadCacheWatcher(CacheWatcher):
    """For `Client`. Holds neither the client nor the process alive."""

    def _start(self) -> None:
        self._over = threading.Event()
        self._connection = self._dialer.dial()
        self._thread = threading.Thread(target=self._run, daemon=True, name="kekd watch")
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._connection.channel.close()

    def abandon(self) -> None:
        self._over.set()

    def wait_closed(self) -> None:
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._read()
            except Exception:  # noqa: BLE001, S110  (whatever it was, it isn't watched any more)
                pass
            finally:
                self._cache.lose()
            self._over.wait(next(self._pauses))
        self._connection.channel.close()

    def _read(self) -> None:
        self._connection = self._dialer.dial(self._connection)
        if self._over.is_set():  # and what was closed was the connection from before
            return
        for event in watch.events(
            self._connection,
            self._watch,
            channel.DEFAULT_TIMEOUT,
            self._dialer.address,
            abandoned=self._over,
        ):
            self._take(event)


class ThreadCaches(Caches[ThreadCacheWatcher]):
    """The caches of a `Client`. A fork ends their watches on both sides, which begin anew as soon
    as somebody reads: gRPC can't be forked in the midst of a call.
    """

    def __init__(self, dialer: channel.Dialer, max_staleness: float) -> None:
        super().__init__(max_staleness, self._begin)
        self._dialer = dialer

    def _begin(
        self, location: StorageConfig | None, cache: Cache, told: Callable[[str], None]
    ) -> ThreadCacheWatcher:
        feed = ThreadCacheWatcher(self._dialer, location, cache, told)
        # Now that gRPC has prepared for forks itself, which it does with its first channel.
        stop_before_fork(self)
        return feed

    def stop(self) -> None:
        for feed in self.close():
            feed.wait_closed()


class AsyncCacheWatcher(CacheWatcher):
    """For `AsyncClient`: a task of the event loop that first reads."""

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        if not self._loop.is_closed():
            self._task.cancel()

    def abandon(self) -> None:
        with suppress(RuntimeError):  # the loop is over, and with it the task
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def wait_closed(self) -> None:
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        connection = None
        try:
            while True:
                connection = self._dialer.dial_async(connection)
                try:
                    await self._read(connection)
                except Exception:  # noqa: BLE001, S110  (as above)
                    pass
                finally:
                    self._cache.lose()
                await asyncio.sleep(next(self._pauses))
        finally:
            if connection:
                await connection.channel.close()

    async def _read(self, connection: channel.Connection) -> None:
        events = watch.events_async(
            connection, self._watch, channel.DEFAULT_TIMEOUT, self._dialer.address
        )
        async with aclosing(events):
            async for event in events:
                self._take(event)


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311  (no secret)
        pause = min(2 * pause, _LONGEST_PAUSE)
