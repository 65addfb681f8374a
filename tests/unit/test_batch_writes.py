"""Batches whose caller disconnects, or in which a write fails unexpectedly."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kekd_schema import Envelope
from kekd_server.model.errors import CallAbandonedError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.storage.writes import groups
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.push import Push
from tests.patience import PATIENCE, eventually
from tests.unit.held_driver import HeldDriver
from tests.unit.waiting import reached

ENVELOPE = Envelope(provider="none", version=1)


class FailingDriver(HeldDriver):
    def _wait(self, name: IndexName) -> None:
        if name.value == "failing":
            raise RuntimeError("unexpected")
        super()._wait(name)


class GatedDriver(HeldDriver):
    """The put of "gate" ends when another one is held."""

    recognizes_attempts = True
    is_past_gate = False

    def _wait(self, name: IndexName) -> None:
        if name.value == "gate":
            eventually(lambda: self.begun)
            self.is_past_gate = True
        super()._wait(name)


@pytest.fixture(params=[FailingDriver])
def driver(request: pytest.FixtureRequest) -> HeldDriver:
    kind: type[HeldDriver] = request.param
    return kind()


@pytest.fixture
async def store(driver: HeldDriver) -> AsyncIterator[Store]:
    store = Store(MemoryLocation(), driver, threads=2, write_concurrency=2)
    yield store
    driver.go_on.set()
    store.close()


def push(name: str) -> Push:
    return Push(IndexName(name), ENVELOPE, None)


async def test_batch_ends_after_its_last_write_when_another_one_fails_unexpectedly(
    store: Store, driver: HeldDriver
) -> None:
    batch = asyncio.create_task(store.put_many([push("held"), push("failing")]))
    await reached(lambda: bool(driver.begun))
    await store.create(IndexName("i"), ENVELOPE)  # in the thread of the write that failed
    for _ in range(10):
        await asyncio.sleep(0)
    assert not batch.done()
    driver.go_on.set()
    with pytest.raises(RuntimeError, match="unexpected"):
        await batch


async def test_push_after_an_abandoned_one_of_its_name_is_not_written_when_a_retry_joins(
    store: Store,
) -> None:
    is_gone = iter([True])  # then the caller of the retry waits
    results = await store.put_many([push("i")] * 2, is_abandoned=lambda: next(is_gone, False))
    assert [type(result) for result in results] == [CallAbandonedError] * 2


@pytest.mark.parametrize("driver", [GatedDriver], indirect=True)
async def test_retry_that_joins_an_abandoned_batch_has_every_entry_written(
    store: Store, driver: GatedDriver
) -> None:
    pushes = [
        push(name)._replace(attempt=WriteAttempt.single())
        for name in ("held", "gate", "after held", "after gate")
    ]
    batch = store.put_many(pushes, is_abandoned=lambda: driver.is_past_gate)
    first = asyncio.create_task(batch)
    await reached(lambda: driver.is_past_gate)
    await store.create(IndexName("i"), ENVELOPE)  # in the thread of "gate", after its last entry
    retry = asyncio.create_task(store.put_many(pushes))
    await asyncio.sleep(0)  # joins
    driver.go_on.set()
    assert [type(result) for result in await retry] == [WriteResult] * 4
    assert CallAbandonedError in map(type, await first)


async def test_first_part_of_a_batch_is_as_small_as_the_first_group(
    monkeypatch: pytest.MonkeyPatch, group_sizes: list[int]
) -> None:
    monkeypatch.setattr(groups, "_SLOW_SECONDS", PATIENCE)
    store = Store(MemoryLocation(), MemoryDriver(), threads=1, write_group=32)
    await store.put_many([push(f"{number}") for number in range(20)])
    assert group_sizes == [8, 12]
    store.close()
