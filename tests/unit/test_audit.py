"""Audit lines, and a file whose writes are late, partial or failing."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from kekd_server.access.audit import audit_log
from kekd_server.access.audit.audit_log import AuditLog
from kekd_server.model.errors import AuditUnavailableError
from kekd_server.observability.metrics import Metrics
from tests.patience import PATIENCE
from tests.unit.waiting import reached


class HeldAuditLog(AuditLog):
    """Writes nothing until `go_on` is set."""

    def __init__(self, file: Path, metrics: Metrics) -> None:
        self.go_on = threading.Event()
        self.is_writing = threading.Event()
        super().__init__(file, metrics)

    def _write_bytes(self, lines: bytes) -> bool:
        if lines:
            self.is_writing.set()
            self.go_on.wait(PATIENCE)
        return super()._write_bytes(lines)


def content(file: Path) -> str:
    return file.read_text()


def move(file: Path, *, create: bool) -> Path:
    """Rotates like logrotate, with or without "create". Returns the new path."""
    moved = file.rename(file.with_name("audit.1"))
    if create:
        file.touch()
    return moved


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
async def log(file: Path, metrics: Metrics) -> AsyncIterator[HeldAuditLog]:
    log = HeldAuditLog(file, metrics)
    yield log
    log.go_on.set()
    log.close()


async def test_enqueued_lines_leave_reserved_room_for_waiting_writes(
    monkeypatch: pytest.MonkeyPatch, file: Path, metrics: Metrics
) -> None:
    monkeypatch.setattr(audit_log, "_MAX_BUFFERED_CHARACTERS", 1000)
    monkeypatch.setattr(audit_log, "_RESERVED", 400)
    monkeypatch.setattr(audit_log, "_WRITE_TIMEOUT", 0.05)
    monkeypatch.setattr(audit_log, "_BLOCKED_WRITE_TIMEOUT", 0.05)
    log = HeldAuditLog(file, metrics)
    log.enqueue(["a" * 600])
    with pytest.raises(AuditUnavailableError):
        await log.write_and_wait(
            ["b" * 300]
        )  # fails late, because nothing is written, but stays in the queue
    log.enqueue(["lost"])
    with pytest.raises(AuditUnavailableError):
        await log.write_and_wait(["lost" * 26])
    assert metrics.registry.get_sample_value("kekd_audit_failures_total") == 2
    log.go_on.set()
    for patience in ("_WRITE_TIMEOUT", "_BLOCKED_WRITE_TIMEOUT"):
        monkeypatch.setattr(audit_log, patience, 10)
    await log.write_and_wait(["c" * 100])
    await log.write_and_wait(["d" * 1000])  # the whole buffer is free again
    log.close()
    assert content(file) == "a" * 600 + "b" * 300 + "c" * 100 + "d" * 1000


async def test_lines_are_written_in_order(log: HeldAuditLog, file: Path) -> None:
    log.go_on.set()
    log.enqueue(["first\n"])
    await log.write_and_wait(["second\n"])
    log.enqueue(["last\n"])
    log.close()
    assert content(file) == "first\nsecond\nlast\n"


@pytest.mark.parametrize("create", [False, True])
async def test_another_file_of_the_same_name_is_followed(
    log: HeldAuditLog, file: Path, create: bool
) -> None:
    log.go_on.set()
    await log.write_and_wait(["before\n"])
    moved = move(file, create=create)
    log.reopen()
    await log.write_and_wait(["after\n"])
    assert (content(moved), content(file)) == ("before\n", "after\n")


@pytest.mark.parametrize(
    ("outcomes", "text"),
    [([3], "first\nsecond\n"), ([3, None], "fir\nsecond\n"), ([None], "second\n")],
)
async def test_partial_line_is_terminated_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
    log: HeldAuditLog,
    file: Path,
    outcomes: list[int | None],
    text: str,
) -> None:
    """`outcomes` are the bytes that the disk accepts; None is a full disk."""
    write, failing = os.write, None in outcomes

    def written(output: int, data: bytes) -> int:
        if not outcomes:
            return write(output, data)
        taken = outcomes.pop(0)
        if taken is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(output, data[:taken])

    log.go_on.set()
    monkeypatch.setattr(os, "write", written)
    if failing:
        with pytest.raises(AuditUnavailableError):
            await log.write_and_wait(["first\n"])
    else:
        await log.write_and_wait(["first\n"])
    await log.write_and_wait(["second\n"])
    assert content(file) == text


async def test_written_bytes_and_free_space_are_measured(
    log: HeldAuditLog, file: Path, metrics: Metrics
) -> None:
    log.go_on.set()
    log.reopen()  # checks the file
    await log.write_and_wait(["line\n"] * 3)
    value = metrics.registry.get_sample_value
    assert value("kekd_audit_bytes_total") == 15
    assert (value("kekd_audit_free_bytes", {"file": str(file)}) or 0) > 0


async def test_unwritable_log_has_the_error_of_the_system(tmp_path: Path, metrics: Metrics) -> None:
    file = tmp_path / "full"
    file.symlink_to("/dev/full")
    log = AuditLog(file, metrics)
    assert log.error == ""
    with pytest.raises(AuditUnavailableError):
        await log.write_and_wait(["line\n"])
    assert log.error == f"{file}: No space left on device"
    log.close()


async def test_blocked_log_keeps_the_error_of_the_system(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "_BLOCKED_WRITE_TIMEOUT", 0.01)
    file = tmp_path / "full"
    file.symlink_to("/dev/full")
    log = HeldAuditLog(file, metrics)
    log.go_on.set()
    with pytest.raises(AuditUnavailableError):
        await log.write_and_wait(["line\n"])
    log.go_on.clear()
    for line in ("late\n", "long" * audit_log._MAX_BUFFERED_CHARACTERS):
        with pytest.raises(AuditUnavailableError):
            await log.write_and_wait([line])
        assert log.error == f"{file}: No space left on device"
    log.go_on.set()
    log.close()


async def test_waiting_lines_are_written_together(
    log: HeldAuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    really_write = os.write

    def write(file: int, lines: bytes) -> int:
        if file == log._output:
            writes.append(lines)
        return really_write(file, lines)

    monkeypatch.setattr(os, "write", write)
    first = asyncio.ensure_future(log.write_and_wait(["1\n"]))
    await reached(log.is_writing.is_set)
    others = [asyncio.ensure_future(log.write_and_wait([f"{n}\n"])) for n in (2, 3)]
    await reached(lambda: log._queue.qsize() == 2)
    log.go_on.set()
    await asyncio.gather(first, *others)
    assert writes == [b"1\n", b"2\n3\n"]


async def test_calls_that_arrive_together_wake_the_thread_once(
    log: HeldAuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    wake = Mock(wraps=log._queue_waiting)
    monkeypatch.setattr(log, "_queue_waiting", wake)
    log.go_on.set()
    await asyncio.gather(*(log.write_and_wait([f"{n}\n"]) for n in range(3)))
    wake.assert_called_once_with()


async def test_calls_that_arrive_together_share_the_timer_of_their_wait(
    log: HeldAuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    timer = Mock(wraps=loop.call_later)
    monkeypatch.setattr(loop, "call_later", timer)
    log.go_on.set()
    await asyncio.gather(*(log.write_and_wait([f"{n}\n"]) for n in range(3)))
    assert [call.args[1] for call in timer.call_args_list] == [log._expire]


async def test_lines_that_are_enqueued_together_start_one_timer(
    log: HeldAuditLog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = Mock()
    log.go_on.set()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "call_later", timer)
        for line in ("first\n", "second\n"):
            log.enqueue([line])
    timer.assert_called_once()
    log.close()
    assert content(file) == "first\nsecond\n"


async def test_line_beyond_the_buffer_fails_without_waiting(
    log: HeldAuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "_WRITE_TIMEOUT", 3600)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(AuditUnavailableError):
            await log.write_and_wait(["a" * (audit_log._MAX_BUFFERED_CHARACTERS + 1)])


async def test_lines_beyond_a_limit_are_left_to_the_next_write(
    log: HeldAuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "_MAX_WRITE_CHARACTERS", 4)
    writes: list[bytes] = []

    def write(lines: bytes) -> bool:
        writes.append(lines)
        return True

    first = asyncio.ensure_future(log.write_and_wait(["1\n"]))
    await reached(log.is_writing.is_set)
    others = [asyncio.ensure_future(log.write_and_wait([f"{n}\n"])) for n in (2, 3, 4)]
    await reached(lambda: log._queue.qsize() == 3)
    monkeypatch.setattr(log, "_write_bytes", write)
    log.go_on.set()
    await asyncio.gather(first, *others)
    assert writes == [b"2\n3\n", b"4\n"]
