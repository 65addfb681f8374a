"""A store: a driver at a location, with envelopes in place of records and awaitable."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, TypeVar

from kekd_schema import CorruptRecordError, Envelope, decode, encode
from kekd_server.errors import CorruptEnvelopeError, KekdError
from kekd_server.names import IndexName, NamePrefix
from kekd_server.storage.driver import Driver
from kekd_server.storage.location import Location

T = TypeVar("T")


class StoredEnvelope(NamedTuple):
    envelope: Envelope
    etag: str


class Store:
    """What the service calls. Every failure leaves it with the store's name on it.

    Drivers block, so their calls run in threads: each store has its own, so that one which hangs
    holds up no other. A call that was begun is finished, even if its caller has gone away.
    """

    def __init__(
        self, location: Location, driver: Driver, *, threads: int, inline_get: bool
    ) -> None:
        """`inline_get`: a get is so short that handing it to a thread would take longer."""
        self.location = location
        self._driver = driver
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=str(location))
        self._inline_get = inline_get
        self._named = _Named(location)

    async def get(self, name: IndexName) -> StoredEnvelope:
        with self._named:
            if self._inline_get:
                stored = self._driver.get(name)
            else:
                stored = await self._in_thread(lambda: self._driver.get(name))
            try:
                return StoredEnvelope(decode(stored.record), stored.etag)
            except CorruptRecordError as error:
                raise CorruptEnvelopeError(name.value, str(error)) from error

    async def create(self, name: IndexName, envelope: Envelope) -> str:
        record = encode(envelope)
        with self._named:
            return await self._in_thread(lambda: self._driver.create(name, record))

    async def put(self, name: IndexName, envelope: Envelope, *, if_etag: str | None) -> str:
        record = encode(envelope)
        with self._named:
            return await self._in_thread(lambda: self._driver.put(name, record, if_etag=if_etag))

    async def delete(self, name: IndexName, *, if_etag: str | None) -> bool:
        with self._named:
            return await self._in_thread(lambda: self._driver.delete(name, if_etag=if_etag))

    async def list(
        self, prefix: NamePrefix, after: IndexName | None, limit: int, *, listing: str
    ) -> list[IndexName]:
        with self._named:
            return await self._in_thread(
                lambda: self._driver.list(prefix, after, limit, listing=listing)
            )

    def close(self) -> None:
        """Doesn't wait for a call that the driver is still in, and which nobody waits for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._driver.close()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class _Named:
    """Puts the store's name on a failure. A class, as a generator takes longer than a get may."""

    def __init__(self, location: Location) -> None:
        self._location = location

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, KekdError):
            error.store = str(self._location)
