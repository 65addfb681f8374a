"""Keeps the history of one store up to date in the background."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol, TypeVar

from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import NamePrefix
from kekd_server.observability.logs import LogThrottle
from kekd_server.storage.driver import Driver
from kekd_server.storage.history_totals import HistoryTotals
from kekd_server.storage.watch.event import Change
from kekd_server.storage.watch.hub import ChangeHub

T = TypeVar("T")

_MAINTENANCE_INTERVAL: Final = 1.0
_STEP_SECONDS: Final = 0.005
_PAUSE_SECONDS: Final = 0.045
"""Between two steps, so that other calls keep nine tenths of the interpreter."""
_RETRY_INTERVAL: Final = 5.0
_HEARTBEAT: Final = 60.0

_log = logging.getLogger(__name__)


class RunInThread(Protocol):
    """Runs a call that may block in a thread."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


class HistoryKeeper:
    """Removes expired versions, and adds those that other programs write as soon as the change
    watcher notices them. Failures are logged, and don't end it.
    """

    def __init__(
        self, store: str, driver: Driver, changes: ChangeHub, run_in_thread: RunInThread
    ) -> None:
        self._store = store
        self._driver = driver
        self._changes = changes
        self._run_in_thread = run_in_thread
        self.removed = 0
        """Versions that expired."""
        self.failures = 0
        self.breaches = 0
        """Changes by other programs to indexes that were held."""
        self._throttle = LogThrottle()

    def totals(self) -> HistoryTotals:
        """See `Driver.history_totals`."""
        return self._driver.history_totals()

    async def run(self, *, follow_changes: bool) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._maintain, _MAINTENANCE_INTERVAL))
            if follow_changes:
                group.create_task(self._repeat(self._follow_changes, _RETRY_INTERVAL))

    async def _repeat(self, work: Callable[[], Awaitable[None]], interval: float) -> None:
        while True:
            try:
                await work()
            except KekdError as error:
                self.failures += 1
                if self._throttle.is_due("failure"):
                    _log.warning("%s: the history is not up to date: %s", self._store, error)
            except Exception:  # noqa: BLE001  (after any error, the history must continue)
                self.failures += 1
                _log.exception("%s: the history is not up to date", self._store)
            await asyncio.sleep(interval)

    async def _maintain(self) -> None:
        steps = self._driver.maintain_history()
        while not await self._run_in_thread(lambda: self._take_steps(steps)):  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE_SECONDS)

    def _take_steps(self, steps: Iterator[int]) -> bool:
        """Returns whether it took the last step."""
        end = time.monotonic() + _STEP_SECONDS
        for removed in steps:
            self.removed += removed
            if time.monotonic() >= end:
                return False
        return True

    async def _follow_changes(self) -> None:
        async with self._changes.subscribe(NamePrefix("")) as subscription:
            while True:
                event = await subscription.next(_HEARTBEAT)
                if event is None:
                    return
                # A breach that it published itself comes back.
                if isinstance(event, Change) and not event.breaches_hold:
                    await self._notice(event)

    async def _notice(self, change: Change) -> None:
        name = change.name
        if not await self._run_in_thread(lambda: self._driver.notice_change(name)):
            return
        self.breaches += 1
        _log.warning(
            "%s: another program changed index %r, which is held; find it, and restore the version"
            " before it",
            *(self._store, name.value),
        )
        self._changes.publish(change._replace(breaches_hold=True))
