"""The calls in flight, so that a shutdown can wait for them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Awaitable[Any]]


class Calls:
    """Counts the calls of the methods that it wraps."""

    def __init__(self) -> None:
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def counted(self, method: Method) -> Method:
        async def call(request: Any, context: Context) -> Any:
            self._running += 1
            self._idle.clear()
            try:
                return await method(request, context)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        return call

    async def finished(self, within: float) -> None:
        """Returns when no call is running, or when `within` seconds have passed."""
        try:
            await asyncio.wait_for(self._idle.wait(), within)
        except TimeoutError:
            _log.warning("cutting off %d calls: the shutdown grace is over", self._running)
