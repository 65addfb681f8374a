"""Who is told which changes, without a store and without a wire."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
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
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.storage.watch.event import Change, ChangeKind, WatchEvent
from kekd_server.storage.watch.hub import Batch, ChangeHub, InThread
from kekd_server.storage.watch.subscription import MOST_PENDING, Subscription
from kekd_server.storage.write_attempt import WriteAttempt

ALL = NamePrefix("")
ONE, OTHER = IndexName("i"), IndexName("j")
SOON = 0.05


def pushed(name: IndexName, etag: str) -> Change:
    return Change(ChangeKind.PUSHED, name, etag)


async def everything(subscription: Subscription) -> list[Change | WatchEvent | None]:
    told: list[Change | WatchEvent | None] = []
    while (event := await subscription.next(SOON)) is not WatchEvent.HEARTBEAT:
        told.append(event)
    return told


class FakeSource:
    """Yields what it is given."""

    def __init__(self, patience: float = 60) -> None:
        self.patience = patience
        self.batch: asyncio.Queue[Batch | Exception] = asyncio.Queue()
        self.running = 0

    async def batches(
        self,
        in_thread: InThread,  # noqa: ARG002
    ) -> AsyncGenerator[Batch, None]:
        self.running += 1
        try:
            while True:
                batch = await self.batch.get()
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            self.running -= 1

    async def tell(self, *batches: Batch | Exception) -> None:
        """Returns when they are through."""
        for batch in batches:
            await self.batch.put(batch)
        await asyncio.sleep(SOON)


@pytest.fixture
def source() -> FakeSource:
    source = FakeSource()
    source.batch.put_nowait([])
    return source


@pytest.fixture
def changes(source: FakeSource) -> Iterator[ChangeHub]:
    with closing(ChangeHub(source, "fake")) as changes:
        yield changes


async def test_the_longest_pending_is_told_first_and_of_one_envelope_the_last() -> None:
    subscription = Subscription(ALL)
    for change in (pushed(ONE, "1"), pushed(OTHER, "2"), pushed(ONE, "3")):
        subscription.tell(change)
    assert await everything(subscription) == [pushed(OTHER, "2"), pushed(ONE, "3")]


async def test_a_resync_stands_for_all_before_it() -> None:
    subscription = Subscription(ALL)
    subscription.tell(pushed(ONE, "1"))
    subscription.resync()
    subscription.tell(pushed(OTHER, "2"))
    assert await everything(subscription) == [WatchEvent.RESYNC, pushed(OTHER, "2")]


async def test_one_that_fell_behind_is_told_so_and_keeps_nothing() -> None:
    subscription = Subscription(ALL)
    for number in range(MOST_PENDING):
        subscription.tell(pushed(IndexName(f"{number}"), ""))
    assert await subscription.next(SOON) == pushed(IndexName("0"), "")
    for number in range(MOST_PENDING, MOST_PENDING + 2):
        subscription.tell(pushed(IndexName(f"{number}"), ""))
    subscription.tell(pushed(ONE, "later"))
    subscription.end()
    assert not subscription._pending
    with pytest.raises(WatchFellBehindError):
        await subscription.next(SOON)


async def test_all_have_ended_when_the_store_is_closed(changes: ChangeHub) -> None:
    async with changes.subscribed(ALL) as one, changes.subscribed(ALL) as other:
        changes.end()
        assert (await one.next(60), await other.next(60)) == (None, None)


async def test_the_source_runs_while_somebody_watches(
    changes: ChangeHub, source: FakeSource
) -> None:
    for _ in range(2):
        async with changes.subscribed(ALL), changes.subscribed(ALL):
            assert source.running == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert source.running == 0
        source.batch.put_nowait([])


async def test_nobody_watches_before_the_source_listens() -> None:
    source = FakeSource()
    entered = asyncio.ensure_future(ChangeHub(source, "fake").subscribed(ALL).__aenter__())
    await asyncio.sleep(SOON)
    assert not entered.done()
    await source.tell([])
    assert entered.done()


@pytest.mark.parametrize("error", [StoreMisconfiguredError("gone"), RuntimeError("unknown")])
async def test_a_source_that_can_not_listen_fails_the_watch_and_is_asked_anew(
    error: Exception,
) -> None:
    source = FakeSource()
    changes = ChangeHub(source, "fake")
    source.batch.put_nowait(error)
    with pytest.raises(type(error)):
        async with changes.subscribed(ALL):
            pass
    source.batch.put_nowait([])
    async with changes.subscribed(ALL):
        assert source.running == 1


async def test_a_source_that_fails_later_ends_the_watches_and_not_the_next(
    changes: ChangeHub, source: FakeSource
) -> None:
    async with changes.subscribed(ALL) as subscription:
        await source.tell(RuntimeError("unknown"))
        source.batch.put_nowait([])
        async with changes.subscribed(ALL) as next_one:
            with pytest.raises(RuntimeError):
                await subscription.next(SOON)
            await source.tell([pushed(ONE, "1")])
            assert await everything(next_one) == [pushed(ONE, "1")]


async def test_a_gap_of_the_source_is_told_to_all(changes: ChangeHub, source: FakeSource) -> None:
    async with changes.subscribed(ALL) as one, changes.subscribed(NamePrefix("x")) as other:
        await source.tell([pushed(ONE, "1")], None, [pushed(OTHER, "2")])
        assert await everything(one) == [WatchEvent.RESYNC, pushed(OTHER, "2")]
        assert await everything(other) == [WatchEvent.RESYNC]


async def own_writes(changes: ChangeHub, subscription: Subscription) -> None:
    for number in range(10_000):
        changes.publish(pushed(ONE, f"{number}"))
        await subscription.next(SOON)
        await asyncio.sleep(SOON / 10)


async def test_a_source_that_is_stuck_ends_the_watches(caplog: pytest.LogCaptureFixture) -> None:
    source = FakeSource()
    source.batch.put_nowait([])
    changes = ChangeHub(source, "fake")
    async with changes.subscribed(ALL) as subscription:
        assert await subscription.next(SOON) is WatchEvent.HEARTBEAT
        source.patience = SOON
        await source.tell([])
        with pytest.raises(StoreUnavailableError):
            await own_writes(changes, subscription)  # which don't vouch for it
    assert "fake: no look for changes" in caplog.text
    assert source.running == 0


async def test_the_notice_of_an_own_write_may_be_of_anothers_too(
    changes: ChangeHub, source: FakeSource
) -> None:
    async with changes.subscribed(ALL) as subscription:
        changes.publish(pushed(ONE, "mine"))
        assert await everything(subscription) == [pushed(ONE, "mine")]
        # Mine, another's and one that took that back: to the kernel they are one.
        await source.tell([pushed(ONE, "mine")])
        assert await everything(subscription) == [pushed(ONE, "mine")]


async def test_many_notices_at_once_cut_off_no_reader(
    changes: ChangeHub, source: FakeSource
) -> None:
    batch = 1000
    async with changes.subscribed(ALL) as reader:
        for start in range(0, 3 * MOST_PENDING, batch):
            names = [IndexName(f"{number}") for number in range(start, start + batch)]
            source.batch.put_nowait([pushed(name, "") for name in names])
        for _ in range(3 * MOST_PENDING):
            assert isinstance(await reader.next(5), Change)
            await asyncio.sleep(0)


async def test_a_write_is_told_even_if_its_caller_has_gone_away() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class SlowDriver(MemoryDriver):
        def create(
            self, name: IndexName, record: bytes, *, attempt: WriteAttempt | None = None
        ) -> str:
            begun.set()
            go_on.wait(5)
            return super().create(name, record, attempt=attempt)

    store = Store(MemoryLocation(), SlowDriver(), threads=1)
    with closing(store):
        async with store.watch(ALL) as subscription:
            write = asyncio.ensure_future(store.create(ONE, Envelope(provider="none")))
            await asyncio.to_thread(begun.wait)
            write.cancel()
            await asyncio.wait([write])
            go_on.set()
            event = await subscription.next(5)
    assert isinstance(event, Change)
    assert event.name == ONE


async def test_a_write_is_told_before_it_is_answered() -> None:
    store = Store(MemoryLocation(), MemoryDriver(), threads=1)
    with closing(store):
        async with store.watch(ALL) as subscription:
            for _ in range(100):
                etag, _ = await store.put(ONE, Envelope(provider="none"), if_etag=None)
                assert subscription._pending == {ONE.key: pushed(ONE, etag)}
                await subscription.next(SOON)


async def test_a_failure_names_the_store() -> None:
    source = FakeSource()
    source.batch.put_nowait(StoreMisconfiguredError("gone"))
    store = Store(MemoryLocation(), MemoryDriver(), threads=1, source=source)
    with closing(store), pytest.raises(KekdError) as failed:
        async with store.watch(ALL):
            pass
    assert failed.value.store == "memory"
