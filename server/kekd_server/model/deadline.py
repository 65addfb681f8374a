"""How long the caller of the call at hand still waits."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, TypeVar

from kekd_server.model.errors import StoreTimeoutError

T = TypeVar("T")

_SHARE: Final = 0.95
"""Of what is left; the rest is for the caller to be told."""

left: Final[ContextVar[Callable[[], float | None]]] = ContextVar("left", default=lambda: None)
"""What says how many seconds; None is for ever."""


async def in_time(work: Awaitable[T], store: str, *, writes: bool = False) -> T:
    """What a store answers, or `StoreTimeoutError` shortly before the caller would hear nothing."""
    seconds = left.get()()
    try:
        async with asyncio.timeout(None if seconds is None else seconds * _SHARE):
            return await work
    except TimeoutError:
        silence = "The store hasn't answered for as long as the caller waits: is it up?"
        error = StoreTimeoutError(f"{silence} It may have been done or not." if writes else silence)
        error.store = store
        raise error from None
