"""Many subscribers with events don't delay other calls, and slow ones don't delay the others."""

import asyncio
from contextlib import closing, suppress

import pytest

from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.watch import turns
from kekd_server.storage.watch.event import Change, ChangeKind, WatchEvent
from kekd_server.storage.watch.hub import ChangeHub
from kekd_server.storage.watch.subscription import Subscription
from kekd_server.storage.watch.turns import MAX_TURNS, Turns
from tests.patience import PATIENCE
from tests.unit.waiting import reached

ALL = NamePrefix("")
CHANGE = Change(ChangeKind.CREATED, IndexName("i"), "etag")


class Subscriber:
    """Waits for a turn."""

    def __init__(self, turns: Turns, begun: list["Subscriber"]) -> None:
        self._turns = turns
        self._begun = begun
        self.task = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        await self._turns.begin(self)
        self._begun.append(self)


@pytest.fixture
def _endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_MAX_SECONDS", PATIENCE)


@pytest.mark.usefixtures("_endless")
async def test_few_subscribers_send_events_at_once() -> None:
    sending = most = sent = 0

    async def subscribe(hub: ChangeHub) -> None:
        nonlocal sending, most, sent
        async with hub.subscribe(ALL) as subscription:
            while await subscription.next(PATIENCE):
                sending += 1
                most = max(most, sending)
                await asyncio.sleep(0)
                sending -= 1
                sent += 1

    with closing(ChangeHub(None, "fake")) as hub:
        async with asyncio.TaskGroup() as group:
            for _ in range(10 * MAX_TURNS):
                group.create_task(subscribe(hub))
            await reached(lambda: len(hub._subscriptions) == 10 * MAX_TURNS)
            hub.publish(CHANGE)
            await reached(lambda: sent == 10 * MAX_TURNS)
            hub.end()
    assert most == MAX_TURNS


@pytest.mark.usefixtures("_endless")
async def test_subscription_that_ended_has_no_turn() -> None:
    with closing(ChangeHub(None, "fake")) as hub:
        for _ in range(MAX_TURNS + 1):
            async with asyncio.timeout(PATIENCE), hub.subscribe(ALL) as subscription:
                hub.publish(CHANGE)
                assert await subscription.next(PATIENCE) == CHANGE


@pytest.mark.usefixtures("_endless")
async def test_subscribers_get_turns_in_the_order_of_their_calls() -> None:
    turns, begun = Turns(), list[Subscriber]()
    subscribers = [Subscriber(turns, begun) for _ in range(MAX_TURNS + 3)]
    await reached(lambda: len(begun) == MAX_TURNS)
    cancelled = subscribers.pop(MAX_TURNS)
    cancelled.task.cancel()
    with suppress(asyncio.CancelledError):
        await cancelled.task
    for subscriber in begun[:2]:
        turns.end(subscriber)
        turns.end(subscriber)  # has none any more
    await reached(lambda: len(begun) == MAX_TURNS + 2)
    assert begun == subscribers


async def test_turn_ends_if_the_caller_does_not_read() -> None:
    turns, begun = Turns(), list[Subscriber]()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(Subscriber(turns, begun).task for _ in range(10 * MAX_TURNS)))


@pytest.mark.usefixtures("_endless")
async def test_slow_subscribers_get_turns_after_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    turns_of_store, begun = Turns(), list[Subscriber]()
    slow = Subscriber(turns_of_store, begun)
    await slow.task
    with monkeypatch.context() as patch:
        patch.setattr(turns, "_MAX_SECONDS", 0)
        turns_of_store._end_overdue()
    for _ in range(MAX_TURNS):
        await Subscriber(turns_of_store, begun).task
    late = asyncio.create_task(turns_of_store.begin(slow))
    prompt = Subscriber(turns_of_store, begun)
    await reached(lambda: bool(turns_of_store._waiting and turns_of_store._slow_waiting))
    turns_of_store.end(begun[1])
    await prompt.task
    assert not late.done()
    turns_of_store.end(begun[2])
    await late


@pytest.mark.usefixtures("_endless")
async def test_heartbeats_wait_for_no_turn() -> None:
    turns = Turns()
    holders = [object() for _ in range(MAX_TURNS)]
    for holder in holders:
        await turns.begin(holder)
    async with asyncio.timeout(PATIENCE):
        assert await Subscription(ALL, turns=turns).next(0) is WatchEvent.HEARTBEAT
