"""Waits for a state that other tasks or threads bring about."""

import asyncio
from collections.abc import Callable

from tests.patience import PATIENCE


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  (threads change it too)
            await asyncio.sleep(0)
