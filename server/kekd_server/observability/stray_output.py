"""What libraries write to standard error past Python's logging: gRPC's core, Rust, tracebacks."""

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_STDERR: Final = 2
_MAX_LINE: Final = 4096
_LAST_SECONDS: Final = 1.0
_PREFIX: Final = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ (?P<place>[\w.]+:\d+\] )?")
"""Of gRPC's core: level, time and thread, which the log has itself, and the place in its source."""

_log = logging.getLogger("grpc.stderr")
"""With the engines, of whose lines the same is logged once a minute."""

_destination: int | None = None


def destination() -> int | None:
    """Where standard error goes while it is logged, for processes that log by themselves."""
    return _destination


@contextmanager
def logged() -> Iterator[int]:
    """While it lasts, each line that is written to file descriptor 2 is one of the log. Gives the
    descriptor of what that was before.
    """
    global _destination  # noqa: PLW0603  (as the descriptor is one of the whole process)
    before = os.dup(_STDERR)
    reading, writing = os.pipe()
    os.dup2(writing, _STDERR)
    os.close(writing)
    _destination = before
    reader = threading.Thread(target=_log_lines, args=[reading], daemon=True)
    reader.start()
    try:
        yield before
    finally:
        _destination = None
        os.dup2(before, _STDERR)
        # The pipe ends here, unless another process has it.
        reader.join(_LAST_SECONDS)


def _log_lines(reading: int) -> None:
    with open(reading, encoding="utf-8", errors="backslashreplace") as lines:
        while line := lines.readline(_MAX_LINE):
            _log_line(line.rstrip())


def _log_line(line: str) -> None:
    prefix = _PREFIX.match(line)
    place = (prefix and prefix["place"]) or ""
    text = line[prefix.end() :] if prefix else line
    if place or text:
        # As a template, by which the log knows the same that quotes another caller.
        _log.warning(place + "%s", text)
