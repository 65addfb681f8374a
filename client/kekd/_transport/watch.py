"""A watch: the one call that goes on, until the daemon is lost."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from kekd._operations import Operation
from kekd._transport import channel
from kekd.errors import UnavailableError
from kekd_proto.v1 import envelope_pb2 as pb

Event = TypeVar("Event")

_MISSED_HEARTBEATS: Final = 3
"""A daemon that is silent for so many is lost."""
_LEAST_PATIENCE: Final = 1.0
"""Seconds; any machine may be too busy for shorter ones."""
_LOOK_INTERVAL: Final = 0.5
"""Seconds between two looks whether a silence lasts too long."""


def events(
    connection: channel.Connection,
    operation: Operation[Event],
    patience: float,
    address: str,
    *,
    abandoned: threading.Event | None = None,
) -> Generator[Event, None, None]:
    """What is told, as it is told. `patience` is how many seconds the first may take.

    Doesn't end by itself: raises an `EnvelopeError` once the daemon is lost, also by silence, or
    soon after `abandoned` is set.
    """
    try:
        call = connection.stream(operation)
    except ValueError:  # gRPC's word for a channel that was closed meanwhile
        raise UnavailableError(channel.CLOSED) from None
    silence = _IdleTimeout(call.cancel, abandoned)
    try:
        while True:
            with silence.of(patience):
                answer = next(call, None)
            if answer is None:
                raise UnavailableError(_ended(address))
            yield operation.result(answer)
            patience = _patience(answer, patience)
    except grpc.RpcError as error:
        if silence.lasted:
            raise UnavailableError(_silent(address)) from None
        raise channel.translated(error, address, operation) from None
    finally:
        silence.close()
        call.cancel()


async def events_async(
    connection: channel.Connection, operation: Operation[Event], patience: float, address: str
) -> AsyncGenerator[Event, None]:
    """`events` for asyncio."""
    call = connection.stream(operation)
    try:
        while True:
            answer = await _next(call, patience, address, operation)
            yield operation.result(answer)
            patience = _patience(answer, patience)
    finally:
        call.cancel()


async def _next(call: Any, patience: float, address: str, operation: Operation[Any]) -> Any:
    try:
        async with asyncio.timeout(patience):
            answer = await call.read()
    except TimeoutError:
        error_message = _silent(address)
    except grpc.RpcError as error:
        raise channel.translated(error, address, operation) from None
    except asyncio.CancelledError:  # also gRPC's word for a channel that was closed meanwhile
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        error_message = channel.CLOSED
    else:
        if answer is not grpc.aio.EOF:
            return answer
        error_message = _ended(address)
    # Out here for the reason that `AsyncClient` has.
    raise UnavailableError(error_message)


class _IdleTimeout:
    """Ends a call that is waited for too long, which gRPC has no word for: its deadlines are of
    whole calls.
    """

    def __init__(self, end: Callable[[], object], abandoned: threading.Event | None) -> None:
        self.lasted = False
        self._end = end
        self._abandoned = abandoned or threading.Event()
        self._until = math.inf
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True, name="kekd watch silence").start()

    @contextmanager
    def of(self, seconds: float) -> Iterator[None]:
        """While the daemon is waited for. While the caller is, nothing is too long."""
        self._until = time.monotonic() + seconds
        try:
            yield
        finally:
            self._until = math.inf

    def close(self) -> None:
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_INTERVAL):
            self.lasted = time.monotonic() > self._until
            if self.lasted or self._abandoned.is_set():
                self._end()
                return


def _patience(answer: pb.WatchEnvelopesResponse, before: float) -> float:
    if answer.HasField("started"):
        return max(_LEAST_PATIENCE, _MISSED_HEARTBEATS * answer.started.heartbeat_seconds)
    return before


def _ended(address: str) -> str:
    return f"kekd at {address} ended the watch."


def _silent(address: str) -> str:
    return f"kekd at {address} is silent: is it running there? The watch counts as lost."
