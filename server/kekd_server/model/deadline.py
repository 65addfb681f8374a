"""How long a caller waits for the result of its call."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final, TypeAlias, TypeVar

from kekd_server.model.errors import StoreTimeoutError

T = TypeVar("T")

Deadline: TypeAlias = float | None
"""A time of `time.monotonic`. None if the caller waits forever."""

_STORE_SHARE: Final = 0.95
"""The part of the remaining time that a store gets. The rest is for sending the error."""


_READ_TIMEOUT_MESSAGE: Final = (
    "store timeout: no answer before the caller's deadline; check the store"
)
_WRITE_TIMEOUT_MESSAGE: Final = (
    "store timeout: no answer before the caller's deadline, and the write may have been applied;"
    " check the store"
)


def deadline_in(seconds: float | None) -> Deadline:
    return None if seconds is None else time.monotonic() + seconds


async def with_deadline(work: Awaitable[T], deadline: Deadline, store: str) -> T:
    """Cancels a read and raises `StoreTimeoutError` shortly before the deadline, so that the caller
    gets the error.
    """
    try:
        async with asyncio.timeout(None if deadline is None else _time_for_store(deadline)):
            return await work
    except TimeoutError:
        raise _timeout_error(_READ_TIMEOUT_MESSAGE, store) from None


async def wait_for_write(write: asyncio.Future[T], deadline: Deadline, store: str) -> T:
    """Raises `StoreTimeoutError` shortly before the deadline. The write continues then, and when
    this wait is cancelled.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end(_: object) -> None:
        if not ended.done():
            ended.set_result(None)

    # asyncio.timeout, shield and wait take three times as long.
    write.add_done_callback(end)
    timer = None if deadline is None else loop.call_later(_time_for_store(deadline), end, None)
    try:
        await ended
    finally:
        if timer:
            timer.cancel()
    if not write.done():
        raise _timeout_error(_WRITE_TIMEOUT_MESSAGE, store)
    return write.result()


def _timeout_error(message: str, store: str) -> StoreTimeoutError:
    error = StoreTimeoutError(message)
    error.store = store
    return error


def _time_for_store(deadline: float) -> float:
    return (deadline - time.monotonic()) * _STORE_SHARE
