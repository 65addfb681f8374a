"""The calls in flight, so that a shutdown can wait for them."""

import asyncio
import logging
from types import TracebackType

_log = logging.getLogger(__name__)


class Calls:
    """Counts what is done while it is entered."""

    def __init__(self) -> None:
        self.running = 0
        self._idle = asyncio.Event()
        self.refused = False
        """Whether calls that come now are too late."""

    def refuse_more(self) -> None:
        self.refused = True
        if not self.running:
            self._idle.set()

    def __enter__(self) -> None:
        self.running += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
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
