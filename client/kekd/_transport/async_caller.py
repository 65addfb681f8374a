"""Makes the calls of an asyncio client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final, TypeVar

import grpc

from kekd._transport import fork, timeouts, watch
from kekd._transport.channel import Connection, Connector
from kekd._transport.operation import Operation, Page
from kekd._transport.retries import Retries
from kekd._transport.status import CLIENT_CLOSED, to_exception
from kekd.errors import DeadlineExceededError, EnvelopeError, UnavailableError

_OTHER_LOOP: Final = (
    "cannot use AsyncClient in this event loop: it belongs to another one that is still open; close"
    " the client or that loop first, or create a client for each loop"
)

Result = TypeVar("Result")
Item = TypeVar("Item")


class AsyncCaller:
    """See `Caller`. Belongs to the event loop that first calls it, until that is closed."""

    _loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        connector: Connector,
        timeout: float,
        *,
        on_loop_closed: Callable[[], object] | None = None,
    ) -> None:
        """`on_loop_closed`: closes what else belongs to a loop that was closed."""
        self.address = connector.address
        self._connector = connector
        self._timeout = timeouts.require_timeout(timeout)
        self._on_loop_closed = on_loop_closed
        self._connection: Connection | None = None

    async def call(self, operation: Operation[Result], timeout: float | None) -> Result:  # noqa: ASYNC109
        retries = Retries(operation, self._seconds(timeout), self._connector)
        while True:
            try:
                return operation.decode_response(await self._attempt(operation, retries.remaining))
            except grpc.RpcError as error:
                delay = retries.delay_after(error)
                if delay is None:
                    raise retries.exception(error) from None
            await asyncio.sleep(delay)

    async def pages(self, page: Page[Item], timeout: float | None) -> AsyncIterator[Item]:  # noqa: ASYNC109
        """See `Caller.pages`."""
        items, token = await self.call(page(""), timeout)
        while token:
            following = page(token)
            prefetch = asyncio.create_task(self.call(following, timeout))
            prefetch.add_done_callback(_retrieve_exception)
            try:
                for item in items:
                    yield item
                try:
                    items, token = await prefetch
                except EnvelopeError:
                    items, token = await self.call(following, timeout)
            finally:
                prefetch.cancel()
        for item in items:
            yield item

    def watch(
        self, operation: Operation[Result], timeout: float | None
    ) -> AsyncGenerator[Result, None]:
        """See `Caller.watch`."""
        seconds = self._seconds(timeout)
        return watch.events_async(self._connected(), operation, seconds, self.address)

    async def wait(self, operation: Operation[None], timeout: float) -> None:  # noqa: ASYNC109
        """See `Caller.wait`."""
        for seconds, is_last in timeouts.retry_schedule(timeout, self._timeout):
            try:
                await self._call_once(operation, seconds)
                return
            except (UnavailableError, DeadlineExceededError):
                if is_last:
                    raise
            await asyncio.sleep(timeouts.WAIT_INTERVAL)

    def leave_closed_loop(self) -> None:
        """Drops the connection of a closed loop, which no other loop can await."""
        if self._connection and self._loop.is_closed():
            if self._on_loop_closed:
                self._on_loop_closed()
            self._connection = None

    async def close(self) -> None:
        """See `Caller.close`."""
        connection, self._connection = self._connection, None
        if connection:
            await connection.channel.close()

    def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._connection and self._loop is not loop:
            if not self._loop.is_closed():
                raise RuntimeError(_OTHER_LOOP)
            self.leave_closed_loop()
        if not self._connection:
            self._loop = loop
            fork.reset_after_fork(self._reset_after_fork)
        self._connection = self._connector.connect_async(self._connection)
        return self._connection

    def _reset_after_fork(self) -> None:
        """The child has none of the threads that serve this client."""
        if self._connection and not self._loop.is_closed():
            fork.refuse_calls_after_async()

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeouts.require_timeout(timeout)

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
