"""Concurrent callers share one load."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from kekd.errors import UnavailableError
from kekd.kek import AsyncKeyring, Keyring
from kekd.kek.errors import AccessDeniedError
from tests.patience import PATIENCE, eventually
from tests.unit.kek_keyring.fakes import Backend, kek_of

CALLERS, FEW_CALLERS = 3000, 100
FAILURES = [AccessDeniedError("no"), UnavailableError("down")]

Ask = Callable[[Backend, int], list[bytes | BaseException]]
"""Asks for one cold KEK from many callers, and returns their results. The load is held until all
callers wait for it."""


def in_threads(backend: Backend, callers: int) -> list[bytes | BaseException]:
    keyring = Keyring(backend.registry, backend.client)
    join, joined = keyring._join_load, list[int]()
    answers: list[bytes | BaseException] = []

    def counted(index_name: str) -> tuple[Future[bytes], bool]:
        load = join(index_name)
        joined.append(1)
        return load

    def call() -> None:
        try:
            answers.append(keyring.kek("i"))
        except Exception as error:  # noqa: BLE001  (the result of the caller)
            answers.append(error)

    keyring._join_load = counted  # type: ignore[method-assign]
    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(joined) == callers)
    backend.release()
    for thread in threads:
        thread.join()
    return answers


def in_tasks(backend: Backend, callers: int) -> list[bytes | BaseException]:
    async def ask() -> list[bytes | BaseException]:
        keyring = AsyncKeyring(backend.registry, backend.client)
        tasks = [asyncio.create_task(keyring.kek("i")) for _ in range(callers)]
        await asyncio.sleep(0)  # until each task waits
        backend.release()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(ask())


either_way = pytest.mark.parametrize("ask", [in_threads, in_tasks])


@either_way
def test_3000_concurrent_callers_cause_one_load(backend: Backend, ask: Ask) -> None:
    backend.hold()
    assert ask(backend, CALLERS) == [kek_of("i")] * CALLERS
    assert backend.loads == ["i"]
    assert len(backend.keks) == 1


@either_way
@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
def test_failed_load_raises_for_every_caller(
    backend: Backend, ask: Ask, failure: AccessDeniedError | UnavailableError
) -> None:
    backend.failure = failure
    backend.hold()
    raised = ask(backend, FEW_CALLERS)
    assert {(type(error), str(error)) for error in raised} == {(type(failure), str(failure))}
    assert len({id(error) for error in raised}) == FEW_CALLERS, (
        "one for each, with its own traceback"
    )
    assert backend.loads == ["i"]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
def test_failed_load_is_not_cached(
    backend: Backend, keyring: Keyring, failure: AccessDeniedError | UnavailableError
) -> None:
    for attempts in (1, 2):
        backend.failure = failure
        with pytest.raises(type(failure)):
            keyring.kek("i")
        assert len(backend.loads) == attempts
    backend.failure = None
    assert keyring.kek("i") == kek_of("i")
    assert len(backend.loads) == 3


def test_caller_racing_with_a_completed_load_causes_no_other(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = Keyring(backend.registry, backend.client)
    look = keyring._cached

    def get_before_another_caller(index_name: str) -> bytes | None:
        found = look(index_name)
        monkeypatch.undo()
        other = threading.Thread(target=keyring.kek, args=(index_name,))
        other.start()
        other.join()
        return found

    monkeypatch.setattr(keyring, "_cached", get_before_another_caller)
    assert keyring.kek("i") == kek_of("i")
    assert backend.loads == ["i"]


def test_load_of_an_index_does_not_block_another(backend: Backend, keyring: Keyring) -> None:
    backend.hold()
    slow = threading.Thread(target=keyring.kek, args=("slow",))
    slow.start()
    eventually(lambda: backend.loads == ["slow"])
    held, backend._open = backend._open, threading.Event()
    backend.release()
    assert keyring.kek("i") == kek_of("i")
    assert slow.is_alive()
    held.set()
    slow.join()


def test_interrupted_load_is_repeated_by_a_waiting_caller(backend: Backend) -> None:
    keyring = Keyring(backend.registry, backend.client)
    load, is_ours = keyring._join_load("i")
    assert is_ours
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(keyring.kek, "i") for _ in range(3)]
        backend.interrupt = True
        with pytest.raises(KeyboardInterrupt):
            keyring._run_load("i", load)
        assert [call.result(PATIENCE) for call in waiting] == [kek_of("i")] * 3
