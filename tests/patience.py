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


def eventually(holds: Callable[[], object]) -> None:
    """Fails if the condition doesn't become true."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "the condition didn't become true"
        time.sleep(_POLL_INTERVAL)


async def eventually_async(holds: Callable[[], object]) -> None:
    """Does the same, and lets the event loop run."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  (other processes change it too)
            await asyncio.sleep(_POLL_INTERVAL)
