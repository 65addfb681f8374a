"""Runs a write to its end, even if its caller stops waiting."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from kekd_server.access.request_context import RequestContext
from kekd_server.model.deadline import wait_for_write
from kekd_server.storage.writes.outcomes import IsAbandoned

T = TypeVar("T")


async def run_detached(
    request: RequestContext, store: str, write: Callable[[IsAbandoned], Coroutine[Any, Any, T]]
) -> T:
    """Returns the write's result. Raises `StoreTimeoutError` if it takes longer than the caller
    waits; the write continues, and can see that it is abandoned.
    """
    is_abandoned = False
    running = asyncio.ensure_future(write(lambda: is_abandoned))
    request.lease.hold()

    def end(_: object) -> None:
        request.lease.release()
        # Keeps asyncio from logging a failure that no caller waits for.
        if not running.cancelled():
            running.exception()

    running.add_done_callback(end)
    try:
        return await wait_for_write(running, request.deadline, store)
    finally:
        is_abandoned = not running.done()
