"""The changes that each subscription gets, without a store and without a wire."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from kekd_schema import Envelope
from kekd_server.model.errors import (
    KekdError,
    StoreMisconfiguredError,
    StoreUnavailableError,
    WatchFellBehindError,
)
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.history.version import Origin
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.storage.watch.event import Change, ChangeKind, WatchEvent
from kekd_server.storage.watch.hub import ChangeHub
from kekd_server.storage.watch.subscription import MAX_PENDING, Subscription
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.steps import Steps
from tests.patience import PATIENCE
from tests.unit.fake_watcher import FakeWatcher
from tests.unit.waiting import reached

ALL = NamePrefix("")
ONE, OTHER = IndexName("i"), IndexName("j")
SOON = 0.05


def pushed(name: IndexName, etag: str) -> Change:
    return Change(ChangeKind.PUSHED, name, etag)


async def everything(subscription: Subscription) -> list[Change | WatchEvent | None]:
    events: list[Change | WatchEvent | None] = []
    while (event := await subscription.next(SOON)) is not WatchEvent.HEARTBEAT:
        events.append(event)
    return events


@pytest.fixture
def watcher() -> FakeWatcher:
    watcher = FakeWatcher()
    watcher.polls.put_nowait([])
    return watcher


@pytest.fixture
def changes(watcher: FakeWatcher) -> Iterator[ChangeHub]:
    with closing(ChangeHub(watcher, "fake")) as changes:
        yield changes


async def test_pending_changes_are_delivered_oldest_first_and_only_the_last_of_each_envelope() -> (
    None
):
    subscription = Subscription(ALL, turns=None)
    for change in (pushed(ONE, "1"), pushed(OTHER, "2"), pushed(ONE, "3")):
        subscription.notify(change)
    assert await everything(subscription) == [pushed(OTHER, "2"), pushed(ONE, "3")]


async def test_resync_replaces_all_pending_changes() -> None:
    subscription = Subscription(ALL, turns=None)
    subscription.notify(pushed(ONE, "1"))
    subscription.resync()
    subscription.notify(pushed(OTHER, "2"))
    assert await everything(subscription) == [WatchEvent.RESYNC, pushed(OTHER, "2")]


async def test_subscription_that_fell_behind_raises_and_keeps_nothing() -> None:
    subscription = Subscription(ALL, turns=None)
    for number in range(MAX_PENDING):
        subscription.notify(pushed(IndexName(f"{number}"), ""))
    assert await subscription.next(SOON) == pushed(IndexName("0"), "")
    for number in range(MAX_PENDING, MAX_PENDING + 2):
        subscription.notify(pushed(IndexName(f"{number}"), ""))
    subscription.notify(pushed(ONE, "later"))
    subscription.end()
    assert not subscription._pending
    with pytest.raises(WatchFellBehindError):
        await subscription.next(SOON)


async def test_closed_store_ends_all_subscriptions(changes: ChangeHub) -> None:
    async with changes.subscribe(ALL) as one, changes.subscribe(ALL) as other:
        changes.end()
        assert (await one.next(PATIENCE), await other.next(PATIENCE)) == (None, None)


async def test_change_watcher_runs_only_while_there_are_subscriptions(
    changes: ChangeHub, watcher: FakeWatcher
) -> None:
    for _ in range(2):
        async with changes.subscribe(ALL), changes.subscribe(ALL):
            assert watcher.running == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert watcher.running == 0
        watcher.polls.put_nowait([])


async def test_subscribe_waits_until_the_change_watcher_has_started() -> None:
    watcher = FakeWatcher()
    entered = asyncio.ensure_future(ChangeHub(watcher, "fake").subscribe(ALL).__aenter__())
    await reached(lambda: watcher.is_idle)
    assert not entered.done()
    await watcher.report([])
    await reached(entered.done)


@pytest.mark.parametrize("error", [StoreMisconfiguredError("gone"), RuntimeError("unknown")])
async def test_change_watcher_that_cannot_start_fails_the_watch_and_is_restarted_for_the_next(
    error: Exception,
) -> None:
    watcher = FakeWatcher()
    changes = ChangeHub(watcher, "fake")
    watcher.polls.put_nowait(error)
    with pytest.raises(type(error)):
        async with changes.subscribe(ALL):
            pass
    watcher.polls.put_nowait([])
    async with changes.subscribe(ALL):
        assert watcher.running == 1


async def test_change_watcher_that_fails_later_ends_the_watches_and_not_the_next(
    changes: ChangeHub, watcher: FakeWatcher
) -> None:
    async with changes.subscribe(ALL) as subscription:
        await watcher.report(RuntimeError("unknown"))
        watcher.polls.put_nowait([])
        async with changes.subscribe(ALL) as next_one:
            with pytest.raises(RuntimeError):
                await subscription.next(SOON)
            await watcher.report([pushed(ONE, "1")])
            assert await everything(next_one) == [pushed(ONE, "1")]


async def test_gap_of_the_change_watcher_is_a_resync_for_all(
    changes: ChangeHub, watcher: FakeWatcher
) -> None:
    async with changes.subscribe(ALL) as one, changes.subscribe(NamePrefix("x")) as other:
        await watcher.report([pushed(ONE, "1")], None, [pushed(OTHER, "2")])
        assert await everything(one) == [WatchEvent.RESYNC, pushed(OTHER, "2")]
        assert await everything(other) == [WatchEvent.RESYNC]


async def own_writes(changes: ChangeHub, subscription: Subscription) -> None:
    for number in range(10_000):
        changes.publish(pushed(ONE, f"{number}"))
        await subscription.next(SOON)
        await asyncio.sleep(SOON / 10)


async def test_change_watcher_that_is_stuck_ends_the_watches(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watcher = FakeWatcher()
    watcher.polls.put_nowait([])
    changes = ChangeHub(watcher, "fake")
    async with changes.subscribe(ALL) as subscription:
        assert await subscription.next(SOON) is WatchEvent.HEARTBEAT
        watcher.timeout = SOON
        await watcher.report([])
        with pytest.raises(StoreUnavailableError):
            await own_writes(changes, subscription)  # they don't prove that the watcher works
    assert "fake: no poll for changes" in caplog.text
    assert watcher.running == 0


async def test_noticed_own_write_is_delivered_again(
    changes: ChangeHub, watcher: FakeWatcher
) -> None:
    async with changes.subscribe(ALL) as subscription:
        changes.publish(pushed(ONE, "mine"))
        assert await everything(subscription) == [pushed(ONE, "mine")]
        # The kernel may merge an own write with writes of others.
        await watcher.report([pushed(ONE, "mine")])
        assert await everything(subscription) == [pushed(ONE, "mine")]


async def test_many_changes_at_once_drop_no_active_reader(
    changes: ChangeHub, watcher: FakeWatcher
) -> None:
    batch = 1000
    async with changes.subscribe(ALL) as reader:
        for start in range(0, 3 * MAX_PENDING, batch):
            names = [IndexName(f"{number}") for number in range(start, start + batch)]
            watcher.polls.put_nowait([pushed(name, "") for name in names])
        for _ in range(3 * MAX_PENDING):
            assert isinstance(await reader.next(PATIENCE), Change)
            await asyncio.sleep(0)


async def test_write_of_a_disconnected_caller_is_published() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class SlowDriver(MemoryDriver):
        def create(
            self, name: IndexName, record: bytes, *, origin: Origin, attempt: WriteAttempt | None
        ) -> Steps[str]:
            begun.set()
            go_on.wait(PATIENCE)
            return (yield from super().create(name, record, origin=origin, attempt=attempt))

    store = Store(MemoryLocation(), SlowDriver(), threads=1)
    with closing(store):
        async with store.watch(ALL) as subscription:
            write = asyncio.ensure_future(store.create(ONE, Envelope(provider="none")))
            await asyncio.to_thread(begun.wait)
            write.cancel()
            await asyncio.wait([write])
            go_on.set()
            event = await subscription.next(PATIENCE)
    assert isinstance(event, Change)
    assert event.name == ONE


async def test_write_is_published_before_it_returns() -> None:
    store = Store(MemoryLocation(), MemoryDriver(), threads=1)
    with closing(store):
        async with store.watch(ALL) as subscription:
            for _ in range(100):
                etag, _ = await store.put(ONE, Envelope(provider="none"), if_etag=None)
                assert subscription._pending == {ONE.key: pushed(ONE, etag)}
                await subscription.next(SOON)


async def test_error_of_a_watch_names_the_store() -> None:
    watcher = FakeWatcher()
    watcher.polls.put_nowait(StoreMisconfiguredError("gone"))
    store = Store(MemoryLocation(), MemoryDriver(), threads=1, watcher=watcher)
    with closing(store), pytest.raises(KekdError) as failed:
        async with store.watch(ALL):
            pass
    assert failed.value.store == "memory"


async def test_subscription_to_noticed_changes_gets_no_published_one(
    changes: ChangeHub, watcher: FakeWatcher
) -> None:
    async with changes.subscribe(ALL, noticed_only=True) as subscription:
        assert not changes.has_subscribers
        changes.publish(pushed(ONE, "1"))
        await watcher.report([pushed(OTHER, "2")])
        assert await everything(subscription) == [pushed(OTHER, "2")]


async def test_changes_are_taken_together_and_the_next_event_is_awaited() -> None:
    subscription = Subscription(ALL, turns=None)
    for change in (pushed(ONE, "1"), pushed(OTHER, "2")):
        subscription.notify(change)
    assert await subscription.next(SOON) == pushed(ONE, "1")
    assert subscription.take_changes() == [pushed(OTHER, "2")]
    waiting = asyncio.ensure_future(subscription.next(PATIENCE))
    await asyncio.sleep(0)
    assert not waiting.done()
    subscription.notify(pushed(ONE, "3"))
    assert await waiting == pushed(ONE, "3")
