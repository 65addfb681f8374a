"""The background work on a history."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import TypeVar

import pytest

from kekd_server.model.errors import StoreUnavailableError, WatchFellBehindError
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.driver import HistoryStep
from kekd_server.storage.history import keeper as history_keeper
from kekd_server.storage.history.keeper import HistoryKeeper
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.watch.event import Change, ChangeKind, OwnChange
from kekd_server.storage.watch.hub import ChangeHub
from tests.fixtures.writes import put
from tests.unit.fake_watcher import FakeWatcher
from tests.unit.waiting import reached

T = TypeVar("T")

A, BAD, HELD = map(IndexName, ("a", "bad", "held"))


class FakeDriver(MemoryDriver):
    """Fails for one name, and finds that another one was changed during its hold."""

    def __init__(self) -> None:
        super().__init__()
        self.noticed: list[IndexName] = []
        self.scans = 0
        self.steps: list[HistoryStep] = []

    def notice_change(self, name: IndexName) -> bool:
        self.noticed.append(name)
        if name == BAD:
            raise StoreUnavailableError("not a directory")
        return name == HELD

    def schedule_scan(self) -> None:
        self.scans += 1

    def maintain_history(self) -> Iterator[HistoryStep]:
        while self.steps:
            yield self.steps.pop()


async def run_here(call: Callable[[], T]) -> T:
    return call()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    for interval in ("_MAINTENANCE_INTERVAL", "_PAUSE_SECONDS", "_RETRY_INTERVAL"):
        monkeypatch.setattr(history_keeper, interval, 0)
    return FakeDriver()


@pytest.fixture
def watcher() -> FakeWatcher:
    watcher = FakeWatcher()
    watcher.polls.put_nowait([])
    return watcher


@pytest.fixture
def changes(watcher: FakeWatcher) -> Iterator[ChangeHub]:
    with closing(ChangeHub(watcher, "fake")) as changes:
        yield changes


@asynccontextmanager
async def running(driver: FakeDriver, changes: ChangeHub) -> AsyncIterator[HistoryKeeper]:
    """Runs a keeper that has subscribed."""
    keeper = HistoryKeeper("fake", driver, changes, run_here)
    task = asyncio.create_task(keeper.run(follow_changes=True))
    await reached(lambda: driver.scans == 1)
    try:
        yield keeper
    finally:
        task.cancel()


def pushed(name: IndexName) -> Change:
    return Change(ChangeKind.PUSHED, name, "etag")


async def test_failure_for_one_index_is_counted_and_does_not_stop_the_others(
    driver: FakeDriver, watcher: FakeWatcher, changes: ChangeHub
) -> None:
    async with running(driver, changes) as keeper:
        await watcher.report([pushed(BAD), pushed(A)])
        await reached(lambda: driver.noticed == [BAD, A])
        assert keeper.failures.total == 1
        assert driver.scans == 2


async def test_own_write_needs_no_look_at_the_history(
    driver: FakeDriver, watcher: FakeWatcher, changes: ChangeHub
) -> None:
    async with running(driver, changes):
        await watcher.report([OwnChange(*pushed(A)), pushed(BAD)])
        await reached(lambda: driver.noticed == [BAD])


async def test_breach_after_an_own_write_is_reported_again(
    driver: FakeDriver, watcher: FakeWatcher, changes: ChangeHub
) -> None:
    put(driver, HELD, b"foreign", if_etag=None)
    async with running(driver, changes) as keeper:
        await watcher.report([pushed(HELD)])
        await reached(lambda: keeper.breaches == 1)
        await watcher.report([OwnChange(*pushed(HELD))])
        await reached(lambda: not keeper._reported)
        await watcher.report([pushed(HELD)])
        await reached(lambda: keeper.breaches == 2)


async def test_missed_changes_lead_to_a_scan(
    driver: FakeDriver, watcher: FakeWatcher, changes: ChangeHub
) -> None:
    async with running(driver, changes):
        await watcher.report(None)
        await reached(lambda: driver.scans == 2)


async def test_new_subscription_leads_to_a_scan(
    driver: FakeDriver, watcher: FakeWatcher, changes: ChangeHub
) -> None:
    async with running(driver, changes) as keeper:
        changes.end(WatchFellBehindError())
        watcher.polls.put_nowait([])
        await reached(lambda: driver.scans == 2)
        assert keeper.failures.total == 1


async def test_breach_is_reported_once_for_each_state(
    driver: FakeDriver, watcher: FakeWatcher, changes: ChangeHub
) -> None:
    async with running(driver, changes) as keeper:
        for breaches, record in enumerate((b"1", b"2"), start=1):
            put(driver, HELD, record, if_etag=None)
            await watcher.report([pushed(HELD)], [pushed(HELD)])
            driver.steps = [HELD, 0]
            await reached(lambda: not driver.steps)
            assert keeper.breaches == breaches


async def test_breach_that_a_scan_finds_is_published(
    driver: FakeDriver, changes: ChangeHub
) -> None:
    async with running(driver, changes), changes.subscribe(NamePrefix("")) as subscription:
        driver.steps = [HELD]
        assert await subscription.next(60) == Change(ChangeKind.DELETED, HELD, breaches_hold=True)
