"""Reads the events of a watch until the connection to the daemon is lost."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from kekd._transport.channel import Connection
from kekd._transport.operation import Operation
from kekd._transport.status import CLIENT_CLOSED, to_exception
from kekd.errors import UnavailableError
from kekd_proto.v1 import envelope_pb2 as pb

Event = TypeVar("Event")

_MAX_MISSED_HEARTBEATS: Final = 3
"""The watch is lost after as many heartbeat intervals without a message."""
_MIN_IDLE_TIMEOUT: Final = 1.0
"""Seconds. On a busy machine, shorter timeouts would end healthy watches."""
_CHECK_INTERVAL: Final = 0.5
"""Seconds between two checks whether the idle timeout has passed."""


def events(
    connection: Connection,
    operation: Operation[Event],
    idle_timeout: float,
    address: str,
    *,
    abandoned: threading.Event | None = None,
) -> Generator[Event, None, None]:
    """Yields events as they arrive. The first may take `idle_timeout` seconds.

    Never ends by itself. Raises an `EnvelopeError` when the daemon is lost or silent, or soon after
    `abandoned` is set.
    """
    try:
        call = connection.stream(operation)
    except ValueError:  # raised by gRPC if the channel was closed
        raise UnavailableError(CLIENT_CLOSED) from None
    timer = _IdleTimeout(call.cancel, abandoned)
    try:
        while True:
            with timer.during(idle_timeout):
                response = next(call, None)
            if response is None:
                raise UnavailableError(_ended(address))
            yield operation.decode_response(response)
            idle_timeout = _idle_timeout_after(response, idle_timeout)
    except grpc.RpcError as error:
        if timer.has_expired:
            raise UnavailableError(_silent(address)) from None
        raise to_exception(error, address, operation) from None
    finally:
        timer.close()
        call.cancel()


async def events_async(
    connection: Connection, operation: Operation[Event], idle_timeout: float, address: str
) -> AsyncGenerator[Event, None]:
    """Does the same for asyncio."""
    call = connection.stream(operation)
    try:
        while True:
            response = await _next(call, idle_timeout, address, operation)
            yield operation.decode_response(response)
            idle_timeout = _idle_timeout_after(response, idle_timeout)
    finally:
        call.cancel()


async def _next(call: Any, idle_timeout: float, address: str, operation: Operation[Any]) -> Any:
    try:
        async with asyncio.timeout(idle_timeout):
            response = await call.read()
    except TimeoutError:
        message = _silent(address)
    except grpc.RpcError as error:
        raise to_exception(error, address, operation) from None
    except asyncio.CancelledError:  # also raised by gRPC if the channel was closed
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        message = CLIENT_CLOSED
    else:
        if response is not grpc.aio.EOF:
            return response
        message = _ended(address)
    # Raised out here for the same reason as in `AsyncCaller._attempt`.
    raise UnavailableError(message)


class _IdleTimeout:
    """Ends a stream that is silent for too long. A gRPC deadline applies to the whole call."""

    def __init__(self, end: Callable[[], object], abandoned: threading.Event | None) -> None:
        self.has_expired = False
        self._end = end
        self._abandoned = abandoned or threading.Event()
        self._expiry = math.inf
        self._is_over = threading.Event()
        threading.Thread(target=self._check, daemon=True, name="kekd watch timeout").start()

    @contextmanager
    def during(self, seconds: float) -> Iterator[None]:
        """Limits the block to `seconds`. Outside the block, the caller may take any time."""
        self._expiry = time.monotonic() + seconds
        try:
            yield
        finally:
            self._expiry = math.inf

    def close(self) -> None:
        self._is_over.set()

    def _check(self) -> None:
        while not self._is_over.wait(_CHECK_INTERVAL):
            self.has_expired = time.monotonic() > self._expiry
            if self.has_expired or self._abandoned.is_set():
                self._end()
                return


def _idle_timeout_after(response: pb.WatchEnvelopesResponse, current: float) -> float:
    if response.HasField("started"):
        return max(_MIN_IDLE_TIMEOUT, _MAX_MISSED_HEARTBEATS * response.started.heartbeat_seconds)
    return current


def _ended(address: str) -> str:
    return f"watch lost: kekd at {address} ended it; restart the watch"


def _silent(address: str) -> str:
    return f"watch lost: kekd at {address} is silent; check it, then restart the watch"
