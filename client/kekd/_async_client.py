"""The client for asyncio."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc

from kekd import _operations as operations
from kekd._cache.envelope_cache import DEFAULT_MAX_STALENESS
from kekd._cache.manager import Caches
from kekd._cache.watcher import AsyncCacheWatcher
from kekd._models import EnvelopeLike, Event, Found, KMSBlob, Push, Pushed, StorageConfig
from kekd._operations import Operation, Page
from kekd._status import DaemonStatus
from kekd._transport import channel, fork, watch
from kekd._transport.retries import Retries
from kekd._transport.tls import Tls
from kekd.errors import EnvelopeError, UnavailableError

_OTHER_LOOP: Final = (
    "this AsyncClient belongs to an event loop that is still open: close the client or that loop"
    " first, or make a client for each loop"
)

Result = TypeVar("Result")
Item = TypeVar("Item")


class AsyncClient:
    """`Client` for asyncio: the same calls with the same meaning, to be awaited.

    It belongs to the event loop that first calls it. Once that loop is closed, another one may call
    it; before, that is a RuntimeError. In a process that was forked while it was open, every call
    of every client raises `UnavailableError`, as gRPC doesn't survive such a fork.
    """

    caches: Caches[AsyncCacheWatcher] | None = None
    _loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: Tls | None = None,
        timeout: float = channel.DEFAULT_TIMEOUT,
        cache: bool = False,
        max_staleness: float = DEFAULT_MAX_STALENESS,
    ) -> None:
        self.address = channel.resolve(address)
        self._dialer = channel.Dialer(self.address, tls)
        self._timeout = channel.checked_timeout(timeout)
        self._connection: channel.Connection | None = None
        if cache:
            self.caches = Caches(max_staleness, partial(AsyncCacheWatcher, self._dialer))
            weakref.finalize(self, self.caches.abandon).atexit = False

    async def create_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  (gRPC's own deadline)
    ) -> str:
        """See `Client.create_index_kms`."""
        return await self._call(operations.create(config_location, index_name, blob), timeout)

    async def push_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> str:
        """See `Client.push_index_kms`."""
        operation = operations.push(config_location, index_name, blob, if_etag)
        return await self._call(operation, timeout)

    async def get_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> KMSBlob:
        """See `Client.get_index_kms`."""
        if self.caches is None:
            return await self._call(operations.get(config_location, index_name), timeout)
        kept = self.caches.get(config_location, index_name)
        if kept is not None:
            return kept
        operation = operations.get(config_location, index_name)
        with self.caches.reading(config_location, operation.index_name) as keep:
            return keep(await self._call(operation, timeout))

    async def delete_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bool:
        """See `Client.delete_index_kms`."""
        return await self._call(operations.delete(config_location, index_name, if_etag), timeout)

    async def list_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[str]:
        """See `Client.list_index_kms`."""
        async for name in self._pages(partial(operations.page, config_location, prefix), timeout):
            yield name

    async def get_many_index_kms(
        self,
        config_location: StorageConfig | None,
        index_names: Iterable[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[Found]:
        """See `Client.get_many_index_kms`."""
        for batch in operations.batches(config_location, index_names):
            while operation := batch.next:
                batch.take(await self._call(operation, timeout))
            for found in batch.results():
                yield self._observed(found)

    async def push_many_index_kms(
        self,
        config_location: StorageConfig | None,
        items: Iterable[Push],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[Pushed]:
        """See `Client.push_many_index_kms`."""
        for batch in operations.push_batches(config_location, items):
            for pushed in [batch] if isinstance(batch, tuple) else await self._call(batch, timeout):
                yield pushed

    async def scan_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[Found]:
        """See `Client.scan_index_kms`."""
        page = partial(operations.full_page, config_location, prefix)
        async for found in self._pages(page, timeout):
            yield self._observed(found)

    async def watch_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncGenerator[Event, None]:
        """See `Client.watch_index_kms`."""
        seconds = self._seconds(timeout)
        operation = operations.watch(config_location, prefix)
        events = watch.events_async(self._connected(), operation, seconds, self.address)
        async with aclosing(events):
            async for event in events:
                if event is not None:
                    yield self.caches.observe_event(event) if self.caches else event

    async def status(self, *, timeout: float | None = None) -> DaemonStatus:  # noqa: ASYNC109
        """See `Client.status`."""
        return await self._call(operations.status(), timeout)

    async def wait(
        self,
        timeout: float = channel.WAIT_TIMEOUT,  # noqa: ASYNC109
        *,
        service: str = operations.SERVICE,
    ) -> None:
        """See `Client.wait`."""
        for seconds, tolerated in channel.looks(timeout, self._timeout):
            with suppress(*tolerated):
                await self._look(operations.serving(self.address, service), seconds)
                return
            await asyncio.sleep(channel.WAIT_INTERVAL)

    async def close(self) -> None:
        """Closes the connection, and drops what was cached. A later call opens another."""
        if self._connection and self._loop.is_closed():
            self._leave_loop()
        for feed in self.caches.close() if self.caches else ():
            await feed.wait_closed()
        connection, self._connection = self._connection, None
        if connection:
            await connection.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _pages(self, page: Page[Item], timeout: float | None) -> AsyncIterator[Item]:  # noqa: ASYNC109
        """As `Client._pages`."""
        items, token = await self._call(page(""), timeout)
        while token:
            following = page(token)
            ahead = asyncio.create_task(self._call(following, timeout))
            ahead.add_done_callback(_seen)
            try:
                for item in items:
                    yield item
                try:
                    items, token = await ahead
                except EnvelopeError:
                    items, token = await self._call(following, timeout)
            finally:
                ahead.cancel()
        for item in items:
            yield item

    def _observed(self, found: Found) -> Found:
        """See `Client._observed`."""
        return self.caches.observe(found) if self.caches else found

    def _connected(self) -> channel.Connection:
        loop = asyncio.get_running_loop()
        if self._connection and self._loop is not loop:
            self._leave_loop()
        if not self._connection:
            self._loop = loop
            fork.forget_after_fork(self)
        self._connection = self._dialer.dial_async(self._connection)
        return self._connection

    def _leave_loop(self) -> None:
        """Lets go of what belongs to a loop that is over, and so can't be awaited any more."""
        if not self._loop.is_closed():
            raise RuntimeError(_OTHER_LOOP)
        if self.caches:
            self.caches.close()
        self._connection = None

    def forget(self) -> None:
        """In a forked child, which has none of the threads that served this one."""
        if self._connection and not self._loop.is_closed():
            fork.refuse_calls_after_async()

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else channel.checked_timeout(timeout)

    async def _call(self, operation: Operation[Result], timeout: float | None) -> Result:  # noqa: ASYNC109
        retries = Retries(operation, self._seconds(timeout), self._dialer)
        try:
            while True:
                try:
                    return operation.result(await self._attempt(operation, retries.remaining))
                except grpc.RpcError as error:
                    delay = retries.delay_after(error)
                    if delay is None:
                        raise retries.exception(error) from None
                await asyncio.sleep(delay)
        finally:
            if self.caches:
                self.caches.change(operation.writes)

    async def _look(self, operation: Operation[None], seconds: float) -> None:
        try:
            operation.result(await self._attempt(operation, seconds))
        except grpc.RpcError as error:
            raise channel.translated(error, self.address, operation) from None

    async def _attempt(self, operation: Operation[Any], seconds: float) -> Any:
        connection = self._connected()  # held while the attempt lasts
        try:
            answer = await connection.method(operation)(operation.request, timeout=seconds)
        except asyncio.CancelledError:  # also gRPC's word for a channel that was closed meanwhile
            if (task := asyncio.current_task()) and task.cancelling():
                raise
        else:
            self._dialer.has_connected = True
            return answer
        # Out here, where no traceback keeps the call: gRPC would report its end to a loop that may
        # be over by then.
        raise UnavailableError(channel.CLOSED)


def _seen(task: asyncio.Task[Any]) -> None:
    """Of a page that nobody wants any more: asyncio would log that nobody saw how it ended."""
    if not task.cancelled():
        task.exception()
