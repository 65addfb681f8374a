"""Many subscribers with events don't delay other calls."""

import asyncio
from contextlib import closing, suppress

import pytest

from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.watch import slots
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import ChangeHub
from kekd_server.storage.watch.slots import SLOTS, Slots
from tests.patience import PATIENCE
from tests.unit.waiting import reached

ALL = NamePrefix("")
CHANGE = Change(ChangeKind.CREATED, IndexName("i"), "etag")


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
            for _ in range(10 * SLOTS):
                group.create_task(subscribe(hub))
            await reached(lambda: len(hub._subscriptions) == 10 * SLOTS)
            hub.publish(CHANGE)
            await reached(lambda: sent == 10 * SLOTS)
            hub.end()
    assert most == SLOTS


async def test_slot_of_a_subscriber_that_ended_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_MAX_SECONDS", PATIENCE)
    with closing(ChangeHub(None, "fake")) as hub:
        for _ in range(SLOTS + 1):
            async with asyncio.timeout(PATIENCE), hub.subscribe(ALL) as subscription:
                hub.publish(CHANGE)
                assert await subscription.next(PATIENCE) == CHANGE


async def test_slots_go_to_the_waiting_subscribers_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "_MAX_SECONDS", PATIENCE)
    subscribers, taken = Slots(), list[int]()

    async def take(number: int) -> None:
        await subscribers.take(number)
        taken.append(number)

    tasks = [asyncio.create_task(take(number)) for number in range(SLOTS + 3)]
    await reached(lambda: len(taken) == SLOTS)
    tasks[SLOTS].cancel()
    with suppress(asyncio.CancelledError):
        await tasks[SLOTS]
    for number in range(2):
        subscribers.give_back(number)
        subscribers.give_back(number)  # once is enough
    await reached(lambda: len(taken) == SLOTS + 2)
    assert taken == [*range(SLOTS), SLOTS + 1, SLOTS + 2]


async def test_caller_who_does_not_read_delays_no_others() -> None:
    subscribers = Slots()
    for number in range(10 * SLOTS):
        async with asyncio.timeout(PATIENCE):
            await subscribers.take(number)  # and never gives it back
