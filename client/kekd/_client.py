"""The client, blocking and asynchronous."""

import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from kekd import _operations as operations
from kekd import _rpc
from kekd._operations import EnvelopeLike, Operation
from kekd._types import KMSBlob, StorageConfig
from kekd.errors import DeadlineExceededError, UnavailableError

Result = TypeVar("Result")

_WAIT_INTERVAL: Final = 0.1
"""Seconds between two looks at a daemon that is starting."""


class Client:
    """Calls one daemon. Its methods have the names and arguments of cyborgdb_core 0.18.

    `address` is `unix:PATH`, `unix:///PATH`, `HOST:PORT` or `[IPV6]:PORT`; without it, that of the
    variable KEKD_ADDRESS, else the socket where a daemon of the same user listens by default.

    `timeout` is how many seconds a call may take, its retries included; each method takes another
    for one call. A call that fails because the daemon or its store can't be reached is retried, at
    growing intervals with jitter, up to five times.

    Threads may share a client. So may a process and those forked from it, if no other thread is in
    a call at the moment of the fork, and if kekd was imported before grpc or the variable
    GRPC_ENABLE_FORK_SUPPORT is 1. Close it, or use it in a `with`, to close the connection.

    Every method raises `EnvelopeError`, by the class that `kekd.errors` draws.
    """

    def __init__(
        self, address: str | None = None, *, timeout: float = _rpc.DEFAULT_TIMEOUT
    ) -> None:
        self.address = _rpc.resolve(address)
        self._timeout = timeout
        self._connection: _rpc.Connection | None = None

    def create_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,
        *,
        timeout: float | None = None,
    ) -> str:
        """Stores the envelope of an index that has none; its etag.

        Raises `EnvelopeExistsError` if there is one. When the daemon's answer was lost and the call
        was retried, an envelope equal to this one counts as stored by it. So as to know the one
        from the other, a create waits for its connection: without a daemon it takes its whole
        timeout, and raises `DeadlineExceededError`. A push with `if_etag` does likewise.
        """
        return self._call(operations.create(config_location, index_name, blob), timeout)

    def push_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Stores the envelope of an index, in place of any that is there; its new etag.

        With `if_etag`, only in place of the envelope that has this etag: else raises
        `EtagMismatchError`, and nothing changes.
        """
        return self._call(operations.push(config_location, index_name, blob, if_etag), timeout)

    def get_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,
    ) -> KMSBlob:
        """The envelope of an index, with its etag.

        Raises `EnvelopeNotFoundError` if there is none.
        """
        return self._call(operations.get(config_location, index_name), timeout)

    def delete_index_kms(
        self,
        config_location: StorageConfig | None,
        index_name: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Removes the envelope of an index; whether there was one. None is no error.

        With `if_etag`, raises `EtagMismatchError` if there is one with another etag.
        """
        return self._call(operations.delete(config_location, index_name, if_etag), timeout)

    def list_index_kms(
        self,
        config_location: StorageConfig | None = None,
        prefix: str = "",
        *,
        timeout: float | None = None,
    ) -> Iterator[str]:
        """The names of the indexes that have an envelope, read a page at a time.

        A name that is there all the while comes exactly once, whatever is written meanwhile. The
        timeout is for each page.
        """
        token = ""
        while True:
            names, token = self._call(operations.page(config_location, prefix, token), timeout)
            yield from names
            if not token:
                return

    def wait(self, timeout: float = 30.0) -> None:
        """Returns as soon as the daemon serves.

        Raises what the last try failed with if it doesn't within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while True:
            remaining = end - time.monotonic()
            try:
                if self._call(operations.serving(), max(remaining, _WAIT_INTERVAL)):
                    return
                raise UnavailableError(f"kekd at {self.address} doesn't serve yet.")  # noqa: TRY301
            except (UnavailableError, DeadlineExceededError):
                if remaining <= 0:
                    raise
            time.sleep(_WAIT_INTERVAL)

    def close(self) -> None:
        """Closes the connection. A later call opens another."""
        connection, self._connection = self._connection, None
        if connection:
            connection.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, operation: Operation[Result], timeout: float | None) -> Result:
        connection = self._connection
        if connection is None:
            # Two threads may both come here first: then one connection serves one call only.
            connection = self._connection = _rpc.Connection(_rpc.channel(self.address))
        try:
            answer = connection.method(operation)(
                operation.request,
                timeout=self._timeout if timeout is None else timeout,
                wait_for_ready=operation.wait_for_ready,
            )
        except grpc.RpcError as error:
            raise _rpc.translated(error, self.address) from None
        except ValueError:  # gRPC's word for a channel that was closed meanwhile
            raise UnavailableError("The client was closed while it was called.") from None
        return operation.result(answer)


class AsyncClient:
    """`Client` for asyncio: the same calls with the same meaning, to be awaited.

    It belongs to the event loop that first calls it.
    """

    def __init__(
        self, address: str | None = None, *, timeout: float = _rpc.DEFAULT_TIMEOUT
    ) -> None:
        self.address = _rpc.resolve(address)
        self._timeout = timeout
        self._connection: _rpc.Connection | None = None

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
        return await self._call(operations.get(config_location, index_name), timeout)

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
        token = ""
        while True:
            page = operations.page(config_location, prefix, token)
            names, token = await self._call(page, timeout)
            for name in names:
                yield name
            if not token:
                return

    async def close(self) -> None:
        """Closes the connection. A later call opens another."""
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

    async def _call(self, operation: Operation[Result], timeout: float | None) -> Result:  # noqa: ASYNC109
        if self._connection is None:
            self._connection = _rpc.Connection(_rpc.aio_channel(self.address))
        try:
            answer = await self._connection.method(operation)(
                operation.request,
                timeout=self._timeout if timeout is None else timeout,
                wait_for_ready=operation.wait_for_ready,
            )
        except grpc.RpcError as error:
            raise _rpc.translated(error, self.address) from None
        return operation.result(answer)
