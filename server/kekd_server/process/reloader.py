"""Reloads files while the daemon runs."""

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

from kekd_server.model.reloading_file import ReloadingFile
from kekd_server.process import systemd

_CHECK_INTERVAL: Final = 1.0

_log = logging.getLogger(__name__)


class Reloader:
    """Checks files for changes once a second, and immediately on SIGHUP."""

    def __init__(self) -> None:
        self._files: list[ReloadingFile[Any]] = []
        self._is_requested = asyncio.Event()

    def add(self, *files: ReloadingFile[Any]) -> None:
        self._files += files

    def request(self) -> None:
        """Makes `run` reload every file immediately, whether it changed or not."""
        self._is_requested.set()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_requested.wait(), _CHECK_INTERVAL)
            if self._is_requested.is_set():
                self._is_requested.clear()
                systemd.reloading()
                await self._check(forced=True)
                systemd.ready()
            else:
                await self._check(forced=False)

    async def _check(self, *, forced: bool) -> None:
        for file in self._files:
            # In a thread, because a volume may hang.
            try:
                await asyncio.to_thread(file.check, forced=forced)
            except Exception:  # noqa: BLE001  (one file that fails must not stop the others)
                _log.exception("internal error")
