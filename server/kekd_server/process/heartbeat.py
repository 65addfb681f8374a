"""Shows that the event loop runs, to probes and to the service manager."""

import asyncio
from collections.abc import Callable
from typing import Final

from kekd_server.process import systemd

_INTERVAL: Final = 1.0


async def run(beat: Callable[[], None]) -> None:
    """Calls `beat` once a second, and notifies the service manager as often as it expects, until it
    is cancelled.
    """
    watchdog = systemd.watchdog_interval()
    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat(beat, _INTERVAL))
        if watchdog:
            group.create_task(_repeat(systemd.keep_alive, watchdog))


async def _repeat(report: Callable[[], None], interval: float) -> None:
    while True:
        report()
        await asyncio.sleep(interval)
