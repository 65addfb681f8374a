"""The audit lines of an operation, and its outcome while the audit log isn't writable."""

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from kekd_common.policy import Method, Rule
from kekd_schema import Envelope
from kekd_server.access.audit.auditor import OnFailure
from kekd_server.model.errors import (
    AccessDeniedError,
    AuditUnavailableError,
    EnvelopeExistsError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.store import Store
from kekd_server.storage.writes.push import Push
from tests.fixtures.access import Access, MemoryAuditLog, access_to, request_of
from tests.unit.held_driver import HeldDriver
from tests.unit.waiting import reached

HELD, NAME = IndexName("held"), IndexName("i")
ENVELOPE = Envelope(provider="none", version=1)


def memory_store(driver: MemoryDriver | None = None) -> Store:
    return Store(MemoryLocation(), driver or MemoryDriver(), threads=1)


@pytest.mark.parametrize(("if_etag", "code"), [(None, "OK"), ("stale", "FAILED_PRECONDITION")])
async def test_write_of_a_disconnected_caller_is_recorded_with_its_outcome(
    if_etag: str | None, code: str
) -> None:
    driver, log = HeldDriver(), MemoryAuditLog()
    service = access_to(memory_store(driver), log=log).service
    call = asyncio.create_task(service.push(request_of(), None, Push(HELD, ENVELOPE, if_etag)))
    await reached(lambda: bool(driver.begun))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [entry["event"] for entry in log.entries] == ["begin"]
    driver.go_on.set()
    await reached(lambda: len(log.entries) == 2)
    assert [entry["event"] for entry in log.entries] == ["begin", "end"]
    assert log.entries[1]["code"] == code
    assert (log.entries[1]["etag_after"] is None) == bool(if_etag)


async def test_failed_write_is_recorded_with_its_reason() -> None:
    log = MemoryAuditLog()
    service = access_to(memory_store(), log=log).service
    await service.create(request_of(), None, NAME, ENVELOPE)
    log.entries.clear()
    with pytest.raises(EnvelopeExistsError):
        await service.create(request_of(), None, NAME, ENVELOPE)
    assert [(entry["event"], entry["reason"]) for entry in log.entries] == [
        ("begin", None),
        ("end", "ENVELOPE_EXISTS"),
    ]


async def test_denied_write_is_not_begun() -> None:
    log = MemoryAuditLog()
    service = access_to(memory_store(), rules=[], log=log).service
    with pytest.raises(AccessDeniedError):
        await service.push(request_of(), None, Push(NAME, ENVELOPE, None))
    assert [(entry["event"], entry["decision"]) for entry in log.entries] == [("end", "denied")]


def test_visible_indexes_are_those_with_the_method_and_read() -> None:
    def rule(method: Method, *indexes: str) -> Rule:
        return Rule(name=method, identities=("*",), methods=(method,), indexes=indexes)

    rules = [rule("list", "both", "listed"), rule("watch", "both"), rule("read", "both", "read")]
    policy = access_to(memory_store(), rules=rules).policy
    methods: list[Method] = ["list", "watch"]
    for method in methods:
        is_visible = policy.visibility_filter(request_of().principal, method, "memory")
        names = ("both", "listed", "read", "none")
        assert [name for name in names if is_visible(name)] == ["both"]


class FullAuditLog(MemoryAuditLog):
    """Has no space for lines that a call waits for."""

    async def write_and_wait(self, lines: Sequence[str]) -> None:  # noqa: ARG002
        raise AuditUnavailableError


async def runs(call: Awaitable[object]) -> bool:
    try:
        await call
    except AuditUnavailableError:
        return False
    return True


async def watch(access: Access) -> None:
    async with access.service.watch(request_of(), None, ""):
        pass


@pytest.mark.parametrize(
    ("on_failure", "reads", "writes"),
    [(None, True, False), ("deny", False, False), ("allow", True, True)],
)
async def test_on_failure_decides_which_calls_run_without_the_audit_log(
    on_failure: OnFailure | None, reads: bool, writes: bool
) -> None:
    store = memory_store()
    await store.create(NAME, ENVELOPE)
    access = access_to(store, log=FullAuditLog(), on_failure=on_failure)
    service, request, new = access.service, request_of(), IndexName("new")
    pushes = [Push(new, ENVELOPE, None)]
    assert await runs(service.get(request, None, NAME)) == reads
    assert await runs(service.get_many(request, None, [NAME])) == reads
    assert await runs(service.list(request, None, "", 10, "")) == reads
    assert await runs(watch(access)) == reads
    assert await runs(service.push_many(request, None, pushes)) == writes
    assert await runs(service.delete(request, None, NAME, if_etag=None)) == writes
    remaining = await store.get_many([NAME, new])
    assert [isinstance(result, Exception) for result in remaining] == [writes, not writes]
