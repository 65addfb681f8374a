"""Makes the calls of a blocking client."""

import time
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import grpc

# `status` as a module, so that kekctl can defer its import.
from kekd._transport import status, timeouts
from kekd._transport.calls import PendingCall
from kekd._transport.channel import Connection, Connector
from kekd._transport.operation import Operation, Page
from kekd._transport.retries import Retries
from kekd.errors import DeadlineExceededError, UnavailableError

Result = TypeVar("Result")
Item = TypeVar("Item")


class Caller:
    """Calls one daemon, with retries, over a connection that it opens and renews.

    `timeout` is the number of seconds that a call may take, unless the call has its own.
    """

    def __init__(self, connector: Connector, timeout: float) -> None:
        self.address = connector.address
        self._connector = connector
        self._timeout = timeouts.require_timeout(timeout)
        self._connection: Connection | None = None

    def call(self, operation: Operation[Result], timeout: float | None) -> Result:
        retries = Retries(operation, self._seconds(timeout), self._connector)
        while True:
            try:
                return operation.decode_response(self._attempt(operation, retries.remaining))
            except grpc.RpcError as error:
                delay = retries.delay_after(error)
                if delay is None:
                    raise retries.exception(error) from None
            time.sleep(delay)

    def pages(self, page: Page[Item], timeout: float | None) -> Iterator[Item]:
        """Prefetches the next page while the caller consumes this one.

        If the prefetch failed, requests the page again.
        """
        items, token = self.call(page(""), timeout)
        while token:
            following = page(token)
            prefetch = PendingCall(self._connected(), following, self._seconds(timeout))
            try:
                yield from items
                items, token = prefetch.result_or_none() or self.call(following, timeout)
            finally:
                prefetch.cancel()
        yield from items

    def watch(
        self, operation: Operation[Result], timeout: float | None
    ) -> Generator[Result, None, None]:
        """Starts a stream, which never ends by itself. The timeout applies to its first message."""
        # Imported here because most programs never watch.
        from kekd._transport import watch  # noqa: PLC0415

        return watch.events(self._connected(), operation, self._seconds(timeout), self.address)

    def wait(self, operation: Operation[None], timeout: float) -> None:
        """Repeats a call until it succeeds. After `timeout` seconds, raises the error of the last
        attempt.
        """
        for seconds, is_last in timeouts.retry_schedule(timeout, self._timeout):
            try:
                self._call_once(operation, seconds)
                return
            except (UnavailableError, DeadlineExceededError):
                if is_last:
                    raise
            time.sleep(timeouts.WAIT_INTERVAL)

    def close(self) -> None:
        """Closes the connection. A later call opens another one."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _connected(self) -> Connection:
        # If two threads connect at the same time, one of the connections serves a single call.
        connection = self._connection = self._connector.connect(self._connection)
        return connection

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeouts.require_timeout(timeout)

    def _call_once(self, operation: Operation[None], seconds: float) -> None:
        """Makes a call without retries."""
        try:
            operation.decode_response(self._attempt(operation, seconds))
        except grpc.RpcError as error:
            raise status.to_exception(error, self.address, operation) from None

    def _attempt(self, operation: Operation[Any], seconds: float) -> Any:
        connection = self._connected()  # keeps it open during the attempt
        try:
            response = connection.method(operation)(operation.request, timeout=seconds)
        except ValueError:  # raised by gRPC if the channel was closed
            raise UnavailableError(status.CLIENT_CLOSED) from None
        self._connector.has_connected = True
        return response
