"""Runs a write to its end, even if its caller stops waiting."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from kekd_server.access.request_context import RequestContext
from kekd_server.model.deadline import with_deadline
from kekd_server.storage.write_outcomes import IsAbandoned

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
    running.add_done_callback(lambda _: request.lease.release())
    running.add_done_callback(_retrieve_exception)
    try:
        return await with_deadline(asyncio.shield(running), request.deadline, store, writes=True)
    finally:
        is_abandoned = not running.done()


def _retrieve_exception(ended: "asyncio.Future[Any]") -> None:
    """Keeps asyncio from logging a failure that no caller waits for."""
    if not ended.cancelled():
        ended.exception()
