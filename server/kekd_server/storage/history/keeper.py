"""Keeps the history of one store up to date in the background."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from kekd_server.model.errors import EnvelopeNotFoundError, KekdError
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.driver import Driver, HistoryStep
from kekd_server.storage.history.totals import HistoryTotals
from kekd_server.storage.watch.event import Change, ChangeKind, OwnChange, WatchEvent
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
        self.breaches = 0
        """Changes by other programs to indexes that were held."""
        self._reported: dict[str, str] = {}
        """The etags that the last reported breaches left, by key."""
        self.failures = driver.history_failures

    def totals(self) -> HistoryTotals:
        """See `Driver.history_totals`."""
        return self._driver.history_totals()

    async def run(self, *, follow_changes: bool) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._maintain, 0))
            if follow_changes:
                group.create_task(self._repeat(self._follow_changes, _RETRY_INTERVAL))

    async def _repeat(self, work: Callable[[], Awaitable[None]], interval: float) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  (after any error, the history must continue)
                self.failures.report(error)
            await asyncio.sleep(interval)

    async def _maintain(self) -> None:
        # A scan at the start finds all changes that were made before the subscription.
        await asyncio.sleep(_MAINTENANCE_INTERVAL)
        steps = self._driver.maintain_history()
        while step := await self._run_in_thread(lambda: self._take_steps(steps)):
            if isinstance(step, IndexName):
                await self._report_breach(step)
            else:
                await asyncio.sleep(_PAUSE_SECONDS)

    def _take_steps(self, steps: Iterator[HistoryStep]) -> IndexName | bool:
        """Returns the name of a held index that another program changed, or whether there are more
        steps.
        """
        end = time.monotonic() + _STEP_SECONDS
        for step in steps:
            if isinstance(step, IndexName):
                return step
            self.removed += step
            if time.monotonic() >= end:
                return True
        return False

    async def _follow_changes(self) -> None:
        async with self._changes.subscribe(NamePrefix(""), noticed_only=True) as subscription:
            self._driver.schedule_scan()
            while True:
                event = await subscription.next(_HEARTBEAT)
                if event is None:
                    return
                if event is WatchEvent.RESYNC:
                    self._driver.schedule_scan()
                elif isinstance(event, Change):
                    await self._notice_all((event, *subscription.take_changes()))

    async def _notice_all(self, changes: Sequence[Change]) -> None:
        """Leaves out this daemon's own writes, which are in the history already."""
        for change in changes:
            if isinstance(change, OwnChange):
                self._reported.pop(change.name.key, None)
        foreign = [change.name for change in changes if not isinstance(change, OwnChange)]
        if foreign:
            await self._notice(iter(foreign))

    async def _notice(self, names: Iterator[IndexName]) -> None:
        while True:
            try:
                breached = await self._run_in_thread(lambda: self._find_breach(names))
                if breached is None:
                    return
                await self._report_breach(breached)
            except KekdError as error:  # of one name
                self.failures.report(error)
                self._driver.schedule_scan()

    def _find_breach(self, names: Iterator[IndexName]) -> IndexName | None:
        """Adds the changes to their histories, up to one that breaches a hold, and returns that."""
        for name in names:
            if self._driver.notice_change(name):
                return name
            self._reported.pop(name.key, None)
        return None

    async def _report_breach(self, name: IndexName) -> None:
        """Reports each breach once, although several events and each scan find it."""
        change = await self._run_in_thread(lambda: self._find_change(name))
        if self._reported.get(name.key) == change.etag:
            return
        self._reported[name.key] = change.etag
        self.breaches += 1
        _log.warning(
            "%s: another program changed index %r, which is held; find it, and restore the version"
            " before it",
            *(self._store, name.value),
        )
        self._changes.publish(change)

    def _find_change(self, name: IndexName) -> Change:
        try:
            etag = self._driver.get(name).etag
        except EnvelopeNotFoundError:
            return Change(ChangeKind.DELETED, name, breaches_hold=True)
        return Change(ChangeKind.PUSHED, name, etag, breaches_hold=True)
