"""What the guard lets be seen, and what is recorded or undone where the audit fails."""

import asyncio
import json
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from kekd_common.policy import Method, Rule
from kekd_server.access.audit_log import AuditLog
from kekd_server.access.authorizer import Authorizer, OnFailure
from kekd_server.access.decision import Deed
from kekd_server.access.principal import Caller
from kekd_server.model.errors import AuditUnavailableError, EnvelopeExistsError
from kekd_server.observability.metrics import Metrics

CALLER = Caller("listener:unix", is_local=True, peer="unix:")


class Memory(AuditLog):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def post(self, lines: Sequence[str]) -> None:
        self.entries += map(json.loads, lines)

    async def write(self, lines: Sequence[str]) -> None:
        self.post(lines)


@pytest.mark.parametrize(("error", "code"), [(None, "OK"), ("exists", "ALREADY_EXISTS")])
async def test_a_write_that_nobody_waits_for_is_recorded_as_it_ends(
    error: str | None, code: str
) -> None:
    audit, go_on = Memory(), asyncio.Event()
    guard = Authorizer(None, Metrics(), audit)
    deed = guard.deed(CALLER, "create", "memory", "i")

    async def create() -> None:
        await go_on.wait()
        if error:
            raise EnvelopeExistsError("i")
        deed.etag_after = "new"

    call = asyncio.create_task(guard.write([deed], create))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [it["event"] for it in audit.entries] == ["begin"]
    go_on.set()
    await asyncio.sleep(0.01)
    assert [it["event"] for it in audit.entries] == ["begin", "end"]
    assert audit.entries[1]["code"] == code
    assert audit.entries[1]["etag_after"] == (None if error else "new")


async def test_a_write_that_is_not_allowed_is_not_begun() -> None:
    audit = Memory()
    guard = Authorizer([], Metrics(), audit)
    deed = guard.deed(CALLER, "push", "memory", "i")

    async def push() -> Deed:
        deed.check()
        return deed

    with pytest.raises(Exception, match="cannot push"):
        await guard.write([deed], push)
    assert [(it["event"], it["decision"]) for it in audit.entries] == [("end", "denied")]


def test_a_sweep_shows_only_what_may_be_read_and_swept() -> None:
    def rule(method: Method, *indexes: str) -> Rule:
        return Rule(name=method, identities=("*",), methods=(method,), indexes=indexes)

    policy = [rule("list", "both", "listed"), rule("watch", "both"), rule("read", "both", "read")]
    guard = Authorizer(policy, Metrics())
    methods: list[Method] = ["list", "watch"]
    for method in methods:
        shown = guard.shown(guard.sweep(CALLER, method, "memory", ""))
        assert [it for it in ("both", "listed", "read", "none") if shown(it)] == ["both"]


class Full(Memory):
    """Has no space for what somebody waits for."""

    async def write(self, lines: Sequence[str]) -> None:  # noqa: ARG002
        raise AuditUnavailableError


@pytest.mark.parametrize(
    ("on_failure", "reads", "writes"),
    [(None, True, False), ("deny", False, False), ("allow", True, True)],
)
async def test_what_is_done_while_the_audit_cannot_be_written(
    on_failure: OnFailure | None, reads: bool, writes: bool
) -> None:
    guard = Authorizer(None, Metrics(), Full(), on_failure)
    done: list[str] = []

    async def work(what: str) -> None:
        done.append(what)

    async def watch() -> None:
        async with guard.watched(guard.sweep(CALLER, "watch", "memory", "")):
            done.append("watch")

    async def answered(call: Awaitable[None]) -> bool:
        try:
            await call
        except AuditUnavailableError:
            return False
        return True

    read, push = (
        guard.deed(CALLER, "read", "memory", "i"),
        guard.deed(CALLER, "push", "memory", "i"),
    )
    assert await answered(guard.read([read], lambda: work("read"))) == reads
    assert await answered(watch()) == reads
    assert await answered(guard.write([push], lambda: work("push"))) == writes
    assert ("watch" in done) == reads
    assert ("push" in done) == writes
