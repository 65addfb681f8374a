"""Attempts of one write join the running one, are remembered, and expire."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from kekd_server.model.errors import CallAbandonedError, EnvelopeExistsError, StoreUnavailableError
from kekd_server.storage.writes.attempt import RETENTION, WriteAttempt
from kekd_server.storage.writes.outcomes import WriteOutcomes

FIRST = WriteAttempt("00" * 16)
RETRY = FIRST._replace(is_retry=True)


def attempt(number: int) -> WriteAttempt:
    return WriteAttempt(f"{number:032x}")


class Work:
    """Records the attempt of each run."""

    def __init__(self, *results: object) -> None:
        self.results = list(results)
        self.attempts: list[WriteAttempt] = []

    async def __call__(self, attempt: WriteAttempt) -> object:
        self.attempts.append(attempt)
        result = self.results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


async def test_attempt_joins_the_running_one() -> None:
    outcomes, may_end = WriteOutcomes(), asyncio.Event()
    runs = 0

    async def work(_: WriteAttempt) -> str:
        nonlocal runs
        runs += 1
        await may_end.wait()
        return "etag"

    first = asyncio.create_task(outcomes.run(FIRST, work))
    second, third = (asyncio.create_task(outcomes.run(RETRY, work)) for _ in range(2))
    await asyncio.sleep(0)
    second.cancel()
    may_end.set()
    assert await first == await third == "etag"
    assert runs == 1


async def test_attempt_that_joined_gets_the_error_too() -> None:
    outcomes, may_end = WriteOutcomes(), asyncio.Event()

    async def work(_: WriteAttempt) -> str:
        await may_end.wait()
        raise StoreUnavailableError("lost")

    waiting = [asyncio.create_task(outcomes.run(attempt, work)) for attempt in (FIRST, RETRY)]
    await asyncio.sleep(0)
    may_end.set()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [StoreUnavailableError, StoreUnavailableError]


async def test_write_without_remaining_callers_is_abandoned() -> None:
    outcomes, may_end = WriteOutcomes(), asyncio.Event()
    gone = [True, False]

    async def work(_: WriteAttempt) -> list[object]:
        await may_end.wait()
        return [CallAbandonedError()]

    waiting = [
        asyncio.create_task(outcomes.run(FIRST, work, partial(gone.__getitem__, number)))
        for number in range(2)
    ]
    await asyncio.sleep(0)
    assert not outcomes.is_abandoned(FIRST.id)
    gone[1] = True
    assert outcomes.is_abandoned(FIRST.id)
    may_end.set()
    await asyncio.gather(*waiting)


async def test_entries_of_a_batch_are_remembered_and_not_the_batch() -> None:
    outcomes, work = WriteOutcomes(), Work(["first"], ["second"])
    outcomes.add("aa", "etag")
    outcomes.add("bb", EnvelopeExistsError("i"))
    for error in (StoreUnavailableError("lost"), CallAbandonedError(), RuntimeError("bug")):
        outcomes.add("cc", error)
    applied, refused = outcomes.find("aa"), outcomes.find("bb")
    assert applied
    assert (applied.is_refusal, applied.result) == (False, "etag")
    assert refused
    assert refused.is_refusal
    assert outcomes.find("cc") is None
    assert await outcomes.run(FIRST, work) == ["first"]
    assert await outcomes.run(RETRY, work) == ["second"]


async def test_delete_of_nothing_is_remembered() -> None:
    outcomes, work = WriteOutcomes(), Work(None, "removed")
    assert await outcomes.run(FIRST, work) is None
    assert await outcomes.run(RETRY, work) is None


async def test_result_is_remembered_for_the_retention(
    pass_time: Callable[[float], None],
) -> None:
    outcomes, work = WriteOutcomes(), Work("etag", "another")
    assert await outcomes.run(FIRST, work) == "etag"
    pass_time(RETENTION - 1)
    assert await outcomes.run(RETRY, work) == "etag"
    pass_time(2)
    assert await outcomes.run(RETRY, work) == "another"


async def test_refused_write_runs_again_as_a_first_attempt() -> None:
    outcomes, work = WriteOutcomes(), Work(EnvelopeExistsError("i"), "etag")
    with pytest.raises(EnvelopeExistsError):
        await outcomes.run(FIRST, work)
    assert await outcomes.run(RETRY, work) == "etag"
    assert work.attempts == [FIRST, FIRST]


async def test_write_with_an_unknown_outcome_runs_again_as_a_retry() -> None:
    outcomes, work = WriteOutcomes(), Work(StoreUnavailableError("lost"), "etag")
    with pytest.raises(StoreUnavailableError):
        await outcomes.run(FIRST, work)
    assert await outcomes.run(RETRY, work) == "etag"
    assert work.attempts == [FIRST, RETRY]


async def test_outcomes_beyond_the_limit_are_dropped_and_reported_as_forgotten(
    pass_time: Callable[[float], None],
) -> None:
    outcomes = WriteOutcomes(max_outcomes=10)
    await outcomes.run(attempt(0), Work("etag"))
    assert not outcomes.may_have_forgotten(attempt(99))
    for number in range(1, 11):
        await outcomes.run(attempt(number), Work("etag"))
    assert outcomes.may_have_forgotten(attempt(0))
    assert not outcomes.may_have_forgotten(attempt(1))
    pass_time(RETENTION)
    assert not outcomes.may_have_forgotten(attempt(0))
