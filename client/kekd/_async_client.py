"""The client for asyncio."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc

from kekd import _batches as batches
from kekd import _operations as operations
from kekd._cache.envelope_cache import DEFAULT_MAX_STALENESS
from kekd._cache.manager import CacheManager
from kekd._cache.watcher import AsyncCacheWatcher
from kekd._models import (
    DestructionReceipt,
    EnvelopeLike,
    EnvelopeVersion,
    Event,
    GetResult,
    Hold,
    KMSBlob,
    Push,
    PushResult,
    StorageConfig,
)
from kekd._operations import Page
from kekd._status import DaemonStatus
from kekd._transport import address as addresses
from kekd._transport import fork, timeouts, watch
from kekd._transport.channel import Connection, Connector
from kekd._transport.operation import SERVICE, Operation
from kekd._transport.retries import Retries
from kekd._transport.status import CLIENT_CLOSED, to_exception
from kekd._transport.tls import Tls
from kekd.errors import DeadlineExceededError, EnvelopeError, UnavailableError

_OTHER_LOOP: Final = (
    "cannot use AsyncClient in this event loop: it belongs to another one that is still open; close"
    " the client or that loop first, or create a client for each loop"
)

Result = TypeVar("Result")
Item = TypeVar("Item")


class AsyncClient:
    """Calls a daemon from asyncio. The methods are those of `Client`, as coroutines and iterators.

    A client belongs to the event loop that first calls it. A call from another loop raises
    RuntimeError, unless the first one is closed. If the process is forked while an `AsyncClient` is
    open, every call of every client in the child raises `UnavailableError`, because gRPC doesn't
    support such a fork.
    """

    _caches: CacheManager[AsyncCacheWatcher] | None = None
    _loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: Tls | None = None,
        timeout: float = timeouts.DEFAULT_TIMEOUT,
        cache: bool = False,
        max_staleness: float = DEFAULT_MAX_STALENESS,
    ) -> None:
        self.address = addresses.resolve(address)
        self._connector = Connector(self.address, tls)
        self._timeout = timeouts.require_timeout(timeout)
        self._connection: Connection | None = None
        if cache:
            self._caches = CacheManager(max_staleness, partial(AsyncCacheWatcher, self._connector))
            weakref.finalize(self, self._caches.abandon).atexit = False

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
        version_id: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> KMSBlob:
        """See `Client.get_index_kms`."""
        if self._caches is None or version_id is not None:
            operation = operations.get(config_location, index_name, version_id)
            return await self._call(operation, timeout)
        cached = self._caches.get(config_location, index_name)
        if cached is not None:
            return cached
        operation = operations.get(config_location, index_name)
        with self._caches.read_through(config_location, operation.index_name) as fill:
            return fill(await self._call(operation, timeout))

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
        show_deleted: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[str]:
        """See `Client.list_index_kms`."""
        page = partial(operations.page, config_location, prefix, show_deleted=show_deleted)
        async for name in self._pages(page, timeout):
            yield name

    async def list_versions_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        full: bool = False,
        page_size: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[EnvelopeVersion]:
        """See `Client.list_versions_index_kms`."""
        page = partial(
            operations.version_page, config_location, index_name, full=full, page_size=page_size
        )
        async for version in self._pages(page, timeout):
            yield version

    async def restore_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        version_id: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> str:
        """See `Client.restore_index_kms`."""
        operation = operations.restore(config_location, index_name, version_id, if_etag)
        return await self._call(operation, timeout)

    async def undelete_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> str:
        """See `Client.undelete_index_kms`."""
        return await self._call(operations.undelete(config_location, index_name), timeout)

    async def hold_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        reason: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        """See `Client.hold_index_kms`."""
        await self._call(operations.hold(config_location, index_name, reason), timeout)

    async def release_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bool:
        """See `Client.release_index_kms`."""
        return await self._call(operations.release(config_location, index_name), timeout)

    async def find_hold_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Hold | None:
        """See `Client.find_hold_index_kms`."""
        return await self._call(operations.find_hold(config_location, index_name), timeout)

    async def import_versions_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        versions: Sequence[EnvelopeVersion],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> int:
        """See `Client.import_versions_index_kms`."""
        imports = batches.version_imports(config_location, index_name, versions)
        return sum([await self._call(operation, timeout) for operation in imports])

    async def destroy_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        reason: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> DestructionReceipt:
        """See `Client.destroy_index_kms`."""
        operation = operations.destroy(config_location, index_name, reason, if_etag)
        return await self._call(operation, timeout)

    async def get_many_index_kms(
        self,
        config_location: StorageConfig | None,
        index_names: Iterable[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[GetResult]:
        """See `Client.get_many_index_kms`."""
        for batch in batches.get_batches(config_location, index_names):
            while operation := batch.next_operation():
                batch.add_response(await self._call(operation, timeout))
            for found in batch.results():
                yield self._observe(found)

    async def push_many_index_kms(
        self,
        config_location: StorageConfig | None,
        items: Iterable[Push],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[PushResult]:
        """See `Client.push_many_index_kms`."""
        for batch in batches.push_batches(config_location, items):
            for pushed in [batch] if isinstance(batch, tuple) else await self._call(batch, timeout):
                yield pushed

    async def scan_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[GetResult]:
        """See `Client.scan_index_kms`."""
        page = partial(operations.full_page, config_location, prefix)
        async for found in self._pages(page, timeout):
            yield self._observe(found)

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
                    yield self._caches.observe_event(event) if self._caches else event

    async def status(self, *, timeout: float | None = None) -> DaemonStatus:  # noqa: ASYNC109
        """See `Client.status`."""
        return await self._call(operations.status(), timeout)

    async def wait(
        self,
        timeout: float = timeouts.WAIT_TIMEOUT,  # noqa: ASYNC109
        *,
        service: str = SERVICE,
    ) -> None:
        """See `Client.wait`."""
        for seconds, is_last in timeouts.retry_schedule(timeout, self._timeout):
            try:
                await self._call_once(operations.serving(self.address, service), seconds)
                return
            except (UnavailableError, DeadlineExceededError):
                if is_last:
                    raise
            await asyncio.sleep(timeouts.WAIT_INTERVAL)

    async def close(self) -> None:
        """Closes the connection and clears the cache. A later call opens another connection."""
        if self._connection and self._loop.is_closed():
            self._leave_loop()
        for watcher in self._caches.close() if self._caches else ():
            await watcher.wait_closed()
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
        """See `Client._pages`."""
        items, token = await self._call(page(""), timeout)
        while token:
            following = page(token)
            early = asyncio.create_task(self._call(following, timeout))
            early.add_done_callback(_retrieve_exception)
            try:
                for item in items:
                    yield item
                try:
                    items, token = await early
                except EnvelopeError:
                    items, token = await self._call(following, timeout)
            finally:
                early.cancel()
        for item in items:
            yield item

    def _observe(self, found: GetResult) -> GetResult:
        """See `Client._observe`."""
        return self._caches.observe(found) if self._caches else found

    def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._connection and self._loop is not loop:
            self._leave_loop()
        if not self._connection:
            self._loop = loop
            fork.reset_after_fork(self._reset_after_fork)
        self._connection = self._connector.connect_async(self._connection)
        return self._connection

    def _leave_loop(self) -> None:
        """Drops what belongs to a closed loop. It can't be awaited in another one."""
        if not self._loop.is_closed():
            raise RuntimeError(_OTHER_LOOP)
        if self._caches:
            self._caches.close()
        self._connection = None

    def _reset_after_fork(self) -> None:
        """The child has none of the threads that serve this client."""
        if self._connection and not self._loop.is_closed():
            fork.refuse_calls_after_async()

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeouts.require_timeout(timeout)

    async def _call(self, operation: Operation[Result], timeout: float | None) -> Result:  # noqa: ASYNC109
        retries = Retries(operation, self._seconds(timeout), self._connector)
        try:
            while True:
                try:
                    return operation.decode_response(
                        await self._attempt(operation, retries.remaining)
                    )
                except grpc.RpcError as error:
                    delay = retries.delay_after(error)
                    if delay is None:
                        raise retries.exception(error) from None
                await asyncio.sleep(delay)
        finally:
            if self._caches:
                self._caches.invalidate(operation.writes)

    async def _call_once(self, operation: Operation[None], seconds: float) -> None:
        try:
            operation.decode_response(await self._attempt(operation, seconds))
        except grpc.RpcError as error:
            raise to_exception(error, self.address, operation) from None

    async def _attempt(self, operation: Operation[Any], seconds: float) -> Any:
        connection = self._connected()  # keeps it open during the attempt
        try:
            response = await connection.method(operation)(operation.request, timeout=seconds)
        except asyncio.CancelledError:  # also raised by gRPC if the channel was closed
            if (task := asyncio.current_task()) and task.cancelling():
                raise
        else:
            self._connector.has_connected = True
            return response
        # Raised outside of the `except` block, so that no traceback refers to the call: gRPC would
        # report the end of the call to a loop that may be closed by then.
        raise UnavailableError(CLIENT_CLOSED)


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keeps asyncio from logging the failure of a page that the caller doesn't read."""
    if not task.cancelled():
        task.exception()
