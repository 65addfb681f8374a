"""Counts the calls in flight, for a limit and for the shutdown."""

import asyncio
import logging

_log = logging.getLogger(__name__)


class InFlightCalls:
    """Counts each call from its `begin` to its `end`."""

    def __init__(self) -> None:
        self.running = 0
        self.is_stopping = False
        """Whether new calls are refused."""
        self._idle = asyncio.Event()

    def stop_accepting(self) -> None:
        self.is_stopping = True
        if not self.running:
            self._idle.set()

    def begin(self) -> None:
        self.running += 1

    def end(self) -> None:
        self.running -= 1
        if self.is_stopping and not self.running:
            self._idle.set()

    async def wait_idle(self, timeout: float) -> None:  # noqa: ASYNC109
        """Returns when no call is running, or after `timeout` seconds. Call `stop_accepting`
        first.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("cancelling %d calls: the shutdown grace is over", self.running)
