"""Behaviour of `AsyncKeyring` in event loops."""

import asyncio
import gc

import pytest

from kekd.errors import UnavailableError
from kekd.kek import AsyncKeyring
from tests.patience import eventually
from tests.unit.kek_keyring.fakes import Backend, kek_of


@pytest.fixture
def keyring(backend: Backend) -> AsyncKeyring:
    return AsyncKeyring(backend.registry, backend.client)


async def test_cancelled_caller_leaves_the_load_to_the_others(
    backend: Backend, keyring: AsyncKeyring
) -> None:
    backend.hold()
    tasks = [asyncio.create_task(keyring.kek("i")) for _ in range(10)]
    await asyncio.to_thread(eventually, lambda: len(backend.loads) > 0)
    for task in tasks[:5]:  # the one that began the load is among them
        task.cancel()
    await asyncio.sleep(0)
    backend.release()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers[:5]] == [asyncio.CancelledError] * 5
    assert answers[5:] == [kek_of("i")] * 5
    assert await keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 1


async def test_load_without_waiting_callers_is_cached(
    backend: Backend, keyring: AsyncKeyring
) -> None:
    backend.hold()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keyring.kek("i"), 0.01)
    backend.release()
    assert await keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 1


async def test_failure_without_waiting_callers_is_not_logged(
    backend: Backend, keyring: AsyncKeyring
) -> None:
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    backend.failure = UnavailableError("down")
    backend.hold()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keyring.kek("i"), 0.01)
    backend.release()
    with pytest.raises(UnavailableError):
        await keyring.kek("i")
    gc.collect()  # asyncio reports a lost exception when its task is collected
    await asyncio.sleep(0)
    assert not unhandled


async def test_500_concurrent_loads_complete(backend: Backend, keyring: AsyncKeyring) -> None:
    names = [f"i{number}" for number in range(500)]
    backend.hold()
    tasks = [asyncio.create_task(keyring.kek(name)) for name in names for _ in range(3)]
    await asyncio.to_thread(eventually, lambda: len(backend.loads) > 0)
    backend.release()
    answers = await asyncio.gather(*tasks)
    assert answers == [kek_of(name) for name in names for _ in range(3)]
    assert sorted(backend.loads) == sorted(names)


async def test_load_does_not_block_the_event_loop(backend: Backend, keyring: AsyncKeyring) -> None:
    backend.hold()
    names = [f"i{number}" for number in range(100)]
    tasks = [asyncio.create_task(keyring.kek(name)) for name in names]
    await asyncio.to_thread(eventually, lambda: len(backend.loads) > 0)
    assert not any(task.done() for task in tasks)
    backend.release()
    await asyncio.gather(*tasks)


def test_keyring_works_in_successive_event_loops(backend: Backend, keyring: AsyncKeyring) -> None:
    for name in ("i", "j", "i"):
        assert asyncio.run(keyring.kek(name)) == kek_of(name)
    assert backend.loads == ["i", "j"]
