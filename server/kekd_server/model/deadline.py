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


async def with_deadline(
    work: Awaitable[T], deadline: Deadline, store: str, *, writes: bool = False
) -> T:
    """Raises `StoreTimeoutError` shortly before the deadline, so that the caller gets the error."""
    try:
        async with asyncio.timeout(_time_for_store(deadline)):
            return await work
    except TimeoutError:
        error = StoreTimeoutError(_WRITE_TIMEOUT_MESSAGE if writes else _READ_TIMEOUT_MESSAGE)
        error.store = store
        raise error from None


def _time_for_store(deadline: Deadline) -> float | None:
    return None if deadline is None else (deadline - time.monotonic()) * _STORE_SHARE
