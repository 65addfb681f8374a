import logging
import sys
import time
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from kekd_server.observability import logs
from kekd_server.observability.json_log import JsonLineFormatter
from kekd_server.observability.logs import LogThrottle, _DroppingQueueHandler, _Text


@pytest.fixture
def lines() -> Queue[Any]:
    return Queue(2)


@pytest.fixture
def logger(lines: Queue[Any]) -> logging.Logger:
    logger = logging.getLogger("test_log")
    logger.handlers = [_DroppingQueueHandler(lines)]
    logger.propagate = False
    return logger


def messages(lines: Queue[Any]) -> list[str]:
    return [lines.get_nowait().getMessage() for _ in range(lines.qsize())]


def test_lines_that_exceed_the_queue_are_dropped_and_counted(
    logger: logging.Logger, lines: Queue[Any]
) -> None:
    for number in range(5):
        logger.error("line %d", number)
    assert messages(lines) == ["line 0", "line 1"]
    logger.error("line 5")
    assert messages(lines) == ["3 lines were dropped from the log", "line 5"]
    logger.error("line 6")
    assert messages(lines) == ["line 6"]


def test_throttled_engine_line_takes_no_room_in_the_queue() -> None:
    lines: Queue[Any] = Queue(10)
    handler = logs._DroppingQueueHandler(lines)
    said = "of one caller's bad calls"
    for _ in range(5):
        handler.handle(logging.LogRecord("grpc._cython", logging.ERROR, "", 0, said, None, None))
        handler.handle(logging.LogRecord("kekd", logging.ERROR, "", 0, said, None, None))
    assert [record.name for record in lines.queue].count("grpc._cython") == 1
    assert lines.qsize() == 6


def test_name_with_control_characters_is_escaped() -> None:
    name = "x\n2026-01-01 INFO forged \x1b[31mred\u2028\udcff é"
    try:
        open(name)  # noqa: PTH123, SIM115
    except OSError:
        caught = sys.exc_info()
    record = logging.LogRecord("kekd", logging.INFO, __file__, 0, "of %s", (name,), caught)
    shown = _Text("{message}", style="{").format(record).split("\n")
    escaped = r"x\n2026-01-01 INFO forged \x1b[31mred\u2028\udcff é"
    assert (shown[0], shown[1]) == (f"of {escaped}", "Traceback (most recent call last):")
    assert all(line.isprintable() for line in shown)


@pytest.mark.parametrize("formatter", [_Text, JsonLineFormatter])
def test_time_of_a_line_is_utc(
    formatter: type[logging.Formatter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    record = logging.makeLogRecord({"created": 1_700_000_000.25, "msg": "x"})
    shown = formatter("{asctime}{message}", style="{").format(record)
    monkeypatch.undo()
    time.tzset()
    assert "2023-11-14T22:13:20.250000+00:00" in shown


def test_repeated_line_is_due_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now))
    throttle = LogThrottle()
    assert throttle.is_due("one")
    now = 59.9
    assert not throttle.is_due("one")
    assert throttle.is_due("other")
    now = 60.0
    assert throttle.is_due("one")
    now = 119.9
    assert not throttle.is_due("one")


def test_full_throttle_forgets_messages() -> None:
    throttle = LogThrottle()
    assert all(throttle.is_due(number) for number in range(25_000))
    assert len(throttle._logged_at) <= 10_000


def test_engine_lines_with_the_same_template_are_throttled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "_engines", LogThrottle())

    def is_due(caller: str) -> bool:
        words = "Invalid encoding on %s", (caller,)
        name = "grpc._cython.cygrpc"
        return logs._is_due(logging.LogRecord(name, logging.ERROR, "", 0, *words, None))

    assert [is_due(message) for message in ("one", "one", "another")] == [True, False, False]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["kekd debug", "kekd info", "kekd error", "library info", "library error"]),
        ("info", ["kekd info", "kekd error", "library info", "library error"]),
        ("error", ["kekd error", "library error"]),
    ],
)
def test_level_selects_lines_and_never_the_details_of_libraries(
    capsys: pytest.CaptureFixture[str], level: str, expected: list[str]
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        with logs.configure("text", level):
            for name in ("kekd", "library"):
                logger = logging.getLogger("kekd_server.test" if name == "kekd" else "botocore")
                for severity in (logging.DEBUG, logging.INFO, logging.ERROR):
                    text = f"{name} {logging.getLevelName(severity).lower()}"
                    logger.log(severity, text)
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        logging.getLogger("kekd_server").setLevel(logging.NOTSET)
        logging.captureWarnings(capture=False)
    printed = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2] for line in printed] == expected
