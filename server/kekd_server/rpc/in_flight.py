"""The calls in flight: a limit counts them, and a shutdown waits for them."""

import asyncio
import logging

_log = logging.getLogger(__name__)


class InFlightCalls:
    """Counts each call from its `begin` to its `end`."""

    def __init__(self) -> None:
        self.running = 0
        self._idle = asyncio.Event()
        self.refused = False
        """Whether calls that come now are too late."""

    def stop_accepting(self) -> None:
        self.refused = True
        if not self.running:
            self._idle.set()

    def begin(self) -> None:
        self.running += 1

    def end(self) -> None:
        self.running -= 1
        if self.refused and not self.running:
            self._idle.set()

    async def finished(self, within: float) -> None:
        """Once more are refused: returns when none is running, or when `within` seconds have
        passed.
        """
        try:
            async with asyncio.timeout(within):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("cutting off %d calls: the shutdown grace is over", self.running)
