"""Owners share the threads of a store fairly, however many calls each of them has."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

from kekd_server.storage.fair_executor import FairExecutor
from tests.patience import PATIENCE, eventually


class Gate:
    """Calls wait in it until it opens."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._entered = threading.Semaphore(0)

    def __call__(self) -> None:
        self._entered.release()
        assert self._open.wait(PATIENCE)

    def wait_entered(self, count: int) -> None:
        for _ in range(count):
            assert self._entered.acquire(timeout=PATIENCE)

    def no_other_entered(self) -> bool:
        return not self._entered.acquire(blocking=False)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def done(future: Future[Any]) -> Any:
    return future.result(timeout=PATIENCE)


def waiting_in(executor: FairExecutor) -> int:
    return sum(map(len, executor._waiting.values()))


def test_call_returns_its_result_and_raises_its_error() -> None:
    executor = FairExecutor(1, name="t")
    assert done(executor.submit("a", lambda: 1)) == 1
    with pytest.raises(ZeroDivisionError):
        done(executor.submit("a", lambda: 1 // 0))


def test_owner_whose_calls_all_hang_leaves_threads_for_others(gate: Gate) -> None:
    executor = FairExecutor(16, name="t")
    for _ in range(1000):
        executor.submit("hog", gate)
    gate.wait_entered(12)
    assert [done(executor.submit(f"other {number}", lambda: 1)) for number in range(100)] == [
        1
    ] * 100
    assert gate.no_other_entered()
    assert waiting_in(executor) == 988


def test_several_owners_whose_calls_all_hang_leave_a_thread_for_others(gate: Gate) -> None:
    executor = FairExecutor(16, name="t")
    for _ in range(100):
        for owner in ("a", "b", "c"):
            executor.submit(owner, gate)
    gate.wait_entered(12)
    assert done(executor.submit("other", lambda: 1)) == 1


def test_owners_take_turns_independent_of_the_queue_order(gate: Gate) -> None:
    executor = FairExecutor(1, name="t")
    order: list[str] = []
    executor.submit("hog", gate)
    gate.wait_entered(1)
    calls = [executor.submit("hog", lambda: order.append("hog")) for _ in range(100)]
    calls += [executor.submit("other", lambda: order.append("other")) for _ in range(3)]
    gate.open()
    wait(calls, timeout=PATIENCE)
    assert order == ["hog", "other"] * 3 + ["hog"] * 97


def test_calls_of_many_owners_all_run() -> None:
    executor = FairExecutor(4, name="t")
    calls = [executor.submit(f"{number % 7}", partial(int, number)) for number in range(5000)]
    assert [done(call) for call in calls] == list(range(5000))
    assert waiting_in(executor) == 0
    eventually(lambda: not executor._slots._taken)


def test_call_that_is_cancelled_before_it_starts_is_removed(gate: Gate) -> None:
    executor = FairExecutor(1, name="t")
    executor.submit("a", gate)
    gate.wait_entered(1)
    waiting = [executor.submit("a", gate) for _ in range(100)]
    assert all(call.cancel() for call in waiting)
    assert waiting_in(executor) == 0
    gate.open()
    assert done(executor.submit("a", lambda: 1)) == 1
    assert gate.no_other_entered()


def test_shutdown_cancels_waiting_calls(gate: Gate) -> None:
    executor = FairExecutor(1, name="t")
    executor.submit("a", gate)
    gate.wait_entered(1)
    waiting = executor.submit("a", lambda: 1)
    executor.shutdown()
    with pytest.raises(CancelledError):
        done(waiting)
    with pytest.raises(RuntimeError):
        executor.submit("a", lambda: 1)


def test_call_beyond_the_share_wakes_no_thread(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = FairExecutor(16, name="t")
    for _ in range(12):
        executor.submit("hog", gate)
    gate.wait_entered(12)
    wake = Mock(wraps=executor._pool.submit)
    monkeypatch.setattr(executor._pool, "submit", wake)
    waiting = [executor.submit("hog", lambda: 1) for _ in range(10)]
    wake.assert_not_called()
    gate.open()
    assert [done(call) for call in waiting] == [1] * 10
