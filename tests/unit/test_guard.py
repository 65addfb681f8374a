"""A write whose caller is gone: how it ended is recorded all the same."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from kekd_server.audit import AuditLog
from kekd_server.caller import Caller
from kekd_server.deed import Deed
from kekd_server.errors import EnvelopeExistsError
from kekd_server.guard import Guard
from kekd_server.metrics import Metrics

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
    guard = Guard(None, Metrics(), audit)
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
    guard = Guard([], Metrics(), audit)
    deed = guard.deed(CALLER, "push", "memory", "i")

    async def push() -> Deed:
        deed.check()
        return deed

    with pytest.raises(Exception, match="may not push"):
        await guard.write([deed], push)
    assert [(it["event"], it["decision"]) for it in audit.entries] == [("end", "denied")]
