"""The work of one identity, even after its caller is gone, doesn't block the others."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from kekd_common.policy import Rule
from kekd_schema import Envelope
from kekd_server.access.call_limits import CallLimits
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import KekdError, ShareTakenError, TooManyCallsError
from kekd_server.model.index_name import IndexName
from kekd_server.observability.metrics import Metrics
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.store import Store
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.push import Push
from kekd_server.storage.writes.steps import Steps
from tests.fixtures.access import MemoryAuditLog, access_to, request_of
from tests.unit.held_driver import HeldDriver
from tests.unit.waiting import reached

ANY = Rule(name="any", identities=("*",), methods=("*",))
ENVELOPE = Envelope(provider="none", version=1)
BATCHES, ENTRIES = 60, 1000


def caller(identity: str, limits: CallLimits | None = None) -> RequestContext:
    if limits is None:
        return request_of(identity)
    return request_of(identity, lease=limits.begin(identity, is_watch=False))


class CodeLog(MemoryAuditLog):
    """Keeps only the code of each audit record."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: Counter[str] = Counter()

    def enqueue(self, lines: Sequence[str]) -> None:
        self.codes.update(line.partition('"code": ')[2].partition(",")[0] for line in lines)

    @property
    def ends(self) -> int:
        return self.codes.total() - self.codes["null"]


class Daemon:
    """A service over a store in which calls for the hog's names hang."""

    def __init__(self) -> None:
        self.driver = HeldDriver()
        self.store = Store(MemoryLocation(), self.driver, threads=16, write_concurrency=4)
        self.audit = CodeLog()
        self.service = access_to(self.store, rules=[ANY], log=self.audit).service
        self._calls: list[asyncio.Task[Any]] = []

    def begin(self, call: Awaitable[Any]) -> asyncio.Task[Any]:
        async def made() -> Any:
            return await call

        self._calls.append(asyncio.create_task(made()))
        return self._calls[-1]

    def push_many(self, owner: RequestContext, count: int = ENTRIES) -> asyncio.Task[Any]:
        pushes = [Push(IndexName(f"held-{number}"), ENVELOPE, None) for number in range(count)]
        return self.begin(self.service.push_many(owner, None, pushes))

    async def close(self) -> None:
        self.driver.go_on.set()
        for call in self._calls:
            call.cancel()
            with suppress(asyncio.CancelledError, KekdError):
                await call
        self.store.close()


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    daemon = Daemon()
    yield daemon
    await daemon.close()


async def test_batches_of_one_identity_that_hang_do_not_block_others(daemon: Daemon) -> None:
    for _ in range(BATCHES):
        daemon.push_many(caller("hog"))
    await reached(lambda: len(daemon.driver.begun) == daemon.store._calls.threads.share)
    other = caller("other")
    for number in range(20):
        name = IndexName(f"mine-{number}")
        await daemon.service.create(other, None, name, ENVELOPE)
        assert (await daemon.service.get(other, None, name)).stored.envelope == ENVELOPE
    page = await daemon.service.list(other, None, "mine", 100, "")
    assert len(page.names) == 20
    await daemon.store.check()
    assert len(daemon.driver.begun) == daemon.store._calls.threads.share


async def test_reads_of_batches_leave_threads_for_others(daemon: Daemon) -> None:
    names = [IndexName(f"held-{number}") for number in range(ENTRIES)]
    for _ in range(BATCHES):
        daemon.begin(daemon.service.get_many(caller("hog"), None, names))
    await reached(lambda: len(daemon.driver.begun) == daemon.store._calls.threads.share)
    await daemon.service.create(caller("other"), None, IndexName("i"), ENVELOPE)


async def test_call_of_the_same_identity_waits_for_a_turn_of_each_batch_and_not_for_their_end(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_create, begun_before = daemon.driver.create, []

    def create(*arguments: Any, **keywords: Any) -> Steps[str]:
        begun_before.append(len(daemon.driver.begun))  # before the task of the call goes on
        return (yield from really_create(*arguments, **keywords))

    monkeypatch.setattr(daemon.driver, "create", create)
    for _ in range(BATCHES):
        daemon.push_many(caller("hog"))
    await reached(lambda: len(daemon.driver.begun) == daemon.store._calls.threads.share)
    created = daemon.begin(daemon.service.create(caller("hog"), None, IndexName("i"), ENVELOPE))
    daemon.driver.go_on.set()
    await created
    (begun,) = begun_before
    assert begun < BATCHES * ENTRIES / 5


async def test_batch_of_a_disconnected_caller_starts_no_more_entries(
    daemon: Daemon,
) -> None:
    call = daemon.push_many(caller("hog"))
    await reached(lambda: len(daemon.driver.begun) == 4)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    daemon.driver.go_on.set()
    await reached(lambda: daemon.audit.ends == ENTRIES)
    assert daemon.audit.codes.keys() == {"null", '"OK"', '"CANCELLED"'}
    assert daemon.audit.codes['"OK"'] == len(daemon.driver.begun) == 4


async def test_retry_gets_the_result_of_a_write_whose_caller_disconnected(daemon: Daemon) -> None:
    attempt = WriteAttempt("00" * 16)

    def push(attempt: WriteAttempt) -> asyncio.Task[str]:
        push = Push(IndexName("held"), ENVELOPE, None)
        return daemon.begin(daemon.service.push(caller("a"), None, push, attempt=attempt))

    first = push(attempt)
    await reached(lambda: daemon.driver.begun == ["held"])
    retry = push(attempt._replace(is_retry=True))
    joined = daemon.store._calls.outcomes._running[attempt.id]
    await reached(lambda: len(joined.waiters) == 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    daemon.driver.go_on.set()
    assert await retry
    assert daemon.driver.begun == ["held"]


async def test_work_of_a_disconnected_caller_counts_against_limits_until_it_ends(
    daemon: Daemon,
) -> None:
    limits = CallLimits(calls=1, rate=None, burst=1, metrics=Metrics())
    owner = caller("hog", limits)
    call = daemon.push_many(owner, 4)
    await reached(lambda: len(daemon.driver.begun) == 4)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    owner.lease.release()  # at the end of its call
    with pytest.raises(TooManyCallsError):
        caller("other", limits)
    daemon.driver.go_on.set()
    await reached(lambda: not limits._calls.is_full)
    caller("other", limits).lease.release()
    assert not limits._entries._taken


async def test_entries_of_a_batch_count_against_limits(daemon: Daemon) -> None:
    limits = CallLimits(calls=100, rate=None, burst=1, metrics=Metrics())
    owners = [caller("hog", limits) for _ in range(4)]
    daemon.push_many(owners[0])
    for owner in owners[1:3]:
        daemon.push_many(owner)
    await reached(lambda: len(daemon.driver.begun) == daemon.store._calls.threads.share)
    with pytest.raises(ShareTakenError, match="entries of batches"):
        await daemon.push_many(owners[3])
    caller("other", limits).lease.add_entries(ENTRIES)
