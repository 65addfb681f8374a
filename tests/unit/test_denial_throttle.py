"""The audit lines that a caller without rights can cause. The test sets the clock."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest

from kekd_server.access.audit import denial_throttle
from kekd_server.access.audit.audit_record import AuditRecord
from kekd_server.access.audit.auditor import Auditor
from kekd_server.access.audit.denial_throttle import (
    BURST,
    LINE_INTERVAL,
    MAX_IDENTITIES,
    DenialThrottle,
)
from kekd_server.access.decision import AccessDecision
from kekd_server.model.errors import (
    AccessDeniedError,
    CallAbandonedError,
    EtagMismatchError,
    StoreNotConfiguredError,
    reason_of,
)
from tests.fixtures.access import MemoryAuditLog, request_of
from tests.patience import PATIENCE
from tests.unit.test_limits import Clock


class PostedLines:
    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def __call__(self, lines: Sequence[str]) -> None:
        self.entries += map(json.loads, lines)


def decision(identity: str = "a", index: str = "i", store: str = "memory") -> AccessDecision:
    return AccessDecision(request_of(identity), "read", store, index, None, generation=1)


def denied(identity: str = "a", index: str = "i") -> AuditRecord:
    return AuditRecord(decision(identity, index))


@pytest.fixture
def clock() -> Any:
    clock = Clock()
    with patch.object(denial_throttle, "time", clock):
        yield clock


async def test_burst_has_lines_and_the_rest_one_with_its_count(clock: Clock) -> None:
    posted = PostedLines()
    throttle = DenialThrottle(posted)
    due = [throttle.admit(denied(index=f"{number}")) for number in range(BURST + 50)]
    assert due == [True] * BURST + [False] * 50
    assert throttle.admit(denied("b"))
    throttle.flush()
    (entry,) = posted.entries
    assert (entry["event"], entry["identity"], entry["count"]) == ("denials", "a", 50)
    assert entry["index"] == f"{BURST + 49}"
    throttle.flush()
    assert len(posted.entries) == 1
    clock.now += LINE_INTERVAL
    assert [throttle.admit(denied()) for _ in range(2)] == [True, False]


async def test_rest_is_written_without_another_denial(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denial_throttle, "SUMMARY_INTERVAL", 0.001)
    written = asyncio.Event()
    throttle = DenialThrottle(lambda _: written.set())
    for _ in range(BURST + 1):
        throttle.admit(denied())
    async with asyncio.timeout(PATIENCE):
        await written.wait()


async def test_identities_are_bounded_and_none_of_their_denials_is_lost(clock: Clock) -> None:
    posted = PostedLines()
    throttle = DenialThrottle(posted)
    for _ in range(BURST + 7):
        throttle.admit(denied())
    for number in range(MAX_IDENTITIES):
        throttle.admit(denied(f"{number}"))
    assert len(throttle._identities) == MAX_IDENTITIES
    assert [entry["count"] for entry in posted.entries] == [7]


async def test_line_has_the_reason_of_the_denial(clock: Clock) -> None:
    log = MemoryAuditLog()
    auditor = Auditor(log)
    error = StoreNotConfiguredError("no such store")
    auditor.record_denied(decision(store="disk:/x"), error)
    auditor.record_denied(decision(), AccessDeniedError("a", "read", "i"))
    recorded = [(entry["code"], entry["reason"]) for entry in log.entries]
    assert recorded == [
        ("PERMISSION_DENIED", "STORE_NOT_CONFIGURED"),
        ("PERMISSION_DENIED", "ACCESS_DENIED"),
    ]


def test_reason_of_each_error_is_recorded() -> None:
    reasons = {
        AccessDeniedError("a", "read", "i"): "ACCESS_DENIED",
        EtagMismatchError("i"): "ETAG_MISMATCH",
        CallAbandonedError(): "CALLER_GONE",
        asyncio.CancelledError(): "CALLER_GONE",
        ZeroDivisionError(): "INTERNAL",
    }
    assert {error: reason_of(error) for error in reasons} == reasons
