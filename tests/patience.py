"""How long a test waits for a state."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 120.0
"""Seconds after which a test gives up. Only a failing test takes that long, so the tests don't
depend on a fast or idle machine.
"""
_POLL_INTERVAL: Final = 0.01
_MAX_POLL_INTERVAL: Final = 0.1


def eventually(holds: Callable[[], object]) -> None:
    """Fails if the condition doesn't become true.

    Checks it less often the longer it waits, because checks take processor time from the daemon.
    """
    begin = time.monotonic()
    while not holds():
        waited = time.monotonic() - begin
        assert waited < PATIENCE, "the condition didn't become true"
        time.sleep(min(max(_POLL_INTERVAL, waited / 10), _MAX_POLL_INTERVAL))


async def eventually_async(holds: Callable[[], object]) -> None:
    """Waits for the same, and lets the event loop run."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  (other processes change it too)
            await asyncio.sleep(_POLL_INTERVAL)
