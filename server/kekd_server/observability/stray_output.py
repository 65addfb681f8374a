"""Logs what libraries write directly to standard error: gRPC's core, Rust, tracebacks."""

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_STDERR: Final = 2
_MAX_LINE: Final = 4096
_JOIN_TIMEOUT: Final = 1.0
_PREFIX: Final = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ (?P<place>[\w.]+:\d+\] )?")
"""The prefix of gRPC's core: level, time and thread, which the log has, and the source line."""

_log = logging.getLogger("grpc.stderr")
"""Named like an engine, so that its lines are throttled."""

_destination: int | None = None


def destination() -> int | None:
    """Returns the original standard error while it is redirected, for child processes that log."""
    return _destination


@contextmanager
def redirect_to_log() -> Iterator[int]:
    """Redirects file descriptor 2 to the log while the context lasts. Yields a descriptor of the
    original.
    """
    global _destination  # noqa: PLW0603  (the descriptor belongs to the whole process)
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
        # The pipe ends here, unless another process inherited it.
        reader.join(_JOIN_TIMEOUT)


def _log_lines(reading: int) -> None:
    with open(reading, encoding="utf-8", errors="backslashreplace") as lines:
        while line := lines.readline(_MAX_LINE):
            _log_line(line.rstrip())


def _log_line(line: str) -> None:
    prefix = _PREFIX.match(line)
    place = (prefix and prefix["place"]) or ""
    text = line[prefix.end() :] if prefix else line
    if place or text:
        # The place is part of the template, by which the log throttles.
        _log.warning(place + "%s", text)
