"""Both kinds of client behind the same interface."""

import asyncio
import threading
from collections.abc import Callable, Generator
from typing import Any, Self

import kekd

_END = object()


class BlockingAsyncClient:
    """An `AsyncClient` on an event loop of its own, called as if it were a `Client`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = kekd.AsyncClient(*args, **options)
        self.address = self._client.address
        self._caches = self._client._caches

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            return await getattr(self._client, name)(*args, **options)

        return lambda *args, **options: self._run(call(*args, **options))

    def list_index_kms(self, *args: Any, **options: Any) -> Generator[Any, None, None]:
        return self._each(self._client.list_index_kms(*args, **options))

    def list_versions_index_kms(self, *args: Any, **options: Any) -> Generator[Any, None, None]:
        return self._each(self._client.list_versions_index_kms(*args, **options))

    def scan_index_kms(self, *args: Any, **options: Any) -> Generator[Any, None, None]:
        return self._each(self._client.scan_index_kms(*args, **options))

    def get_many_index_kms(self, *args: Any, **options: Any) -> Generator[Any, None, None]:
        return self._each(self._client.get_many_index_kms(*args, **options))

    def push_many_index_kms(self, *args: Any, **options: Any) -> Generator[Any, None, None]:
        return self._each(self._client.push_many_index_kms(*args, **options))

    def watch_index_kms(self, *args: Any, **options: Any) -> Generator[Any, None, None]:
        return self._each(self._client.watch_index_kms(*args, **options))

    def __enter__(self) -> Self:
        self._run(self._client.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._client.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _each(self, items: Any) -> Generator[Any, None, None]:
        try:
            while (item := self._run(anext(items, _END))) is not _END:
                yield item
        finally:
            self._run(items.aclose())

    def _run(self, call: Any) -> Any:
        async def awaited() -> Any:
            return await call

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()


OpenClient = Callable[..., kekd.Client]
