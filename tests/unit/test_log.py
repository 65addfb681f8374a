import logging
from queue import Queue
from typing import Any

import pytest

from kekd_server.log import _Unblocking


@pytest.fixture
def lines() -> Queue[Any]:
    return Queue(2)


@pytest.fixture
def logger(lines: Queue[Any]) -> logging.Logger:
    logger = logging.getLogger("test_log")
    logger.handlers = [_Unblocking(lines)]
    logger.propagate = False
    return logger


def messages(lines: Queue[Any]) -> list[str]:
    return [lines.get_nowait().getMessage() for _ in range(lines.qsize())]


def test_lines_that_find_no_room_are_left_out_and_counted(
    logger: logging.Logger, lines: Queue[Any]
) -> None:
    for number in range(5):
        logger.error("line %d", number)
    assert messages(lines) == ["line 0", "line 1"]
    logger.error("line 5")
    assert messages(lines) == ["3 lines were left out of the log", "line 5"]
    logger.error("line 6")
    assert messages(lines) == ["line 6"]
