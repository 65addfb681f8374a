"""The client for asyncio."""

import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from kekd import _operations as operations
from kekd._cache import DEFAULT_MAX_STALENESS
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
from kekd._status import DaemonStatus
from kekd._transport import timeouts
from kekd._transport.async_caller import AsyncCaller
from kekd._transport.channel import Connector
from kekd._transport.endpoint import Endpoint
from kekd._transport.operation import SERVICE, Operation
from kekd._transport.tls import Tls

Result = TypeVar("Result")


class AsyncClient:
    """Calls a daemon from asyncio. The methods are those of `Client`, as coroutines and iterators.

    A client belongs to the event loop that first calls it. A call from another loop raises
    RuntimeError, unless the first one is closed. If the process is forked while an `AsyncClient` is
    open, every call of every client in the child raises `UnavailableError`, because gRPC doesn't
    support such a fork.
    """

    _caches: CacheManager[AsyncCacheWatcher] | None = None

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: Tls | None = None,
        timeout: float = timeouts.DEFAULT_TIMEOUT,
        cache: bool = False,
        max_staleness: float = DEFAULT_MAX_STALENESS,
    ) -> None:
        connector = Connector(Endpoint.from_environment(address, tls))
        if cache:
            self._caches = CacheManager(max_staleness, partial(AsyncCacheWatcher, connector))
            weakref.finalize(self, self._caches.abandon).atexit = False
        drop_caches = self._caches.close if self._caches else None
        self._caller = AsyncCaller(connector, timeout, on_loop_closed=drop_caches)

    @property
    def address(self) -> str:
        """The address of the daemon."""
        return self._caller.address

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
        async for name in self._caller.pages(page, timeout):
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
        async for version in self._caller.pages(page, timeout):
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
        imports = operations.version_imports(config_location, index_name, versions)
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
        for batch in operations.get_batches(config_location, index_names):
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
        for batch in operations.push_batches(config_location, items):
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
        async for found in self._caller.pages(page, timeout):
            yield self._observe(found)

    async def watch_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncGenerator[Event, None]:
        """See `Client.watch_index_kms`."""
        events = self._caller.watch(operations.watch(config_location, prefix), timeout)
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
        await self._caller.wait(operations.check_health(self.address, service), timeout)

    async def close(self) -> None:
        """Closes the connection and clears the cache. A later call opens another connection."""
        self._caller.leave_closed_loop()
        for watcher in self._caches.close() if self._caches else ():
            await watcher.wait_closed()
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _observe(self, found: GetResult) -> GetResult:
        """See `Client._observe`."""
        return self._caches.observe(found) if self._caches else found

    async def _call(self, operation: Operation[Result], timeout: float | None) -> Result:  # noqa: ASYNC109
        try:
            return await self._caller.call(operation, timeout)
        finally:
            if self._caches:
                self._caches.invalidate(operation.writes)
