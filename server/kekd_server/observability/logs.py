"""Writes the daemon's log to standard error."""

import logging
import sys
import time
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Any, Final, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

from kekd_common.printable import printable
from kekd_server.observability import stray_output

_MAX_QUEUED_LINES: Final = 2_000
_FLUSH_TIMEOUT: Final = 1.0
_THROTTLE_INTERVAL: Final = 60.0
_MAX_THROTTLED_LINES: Final = 10_000


@contextmanager
def configure(
    form: Literal["text", "json"], level: str = "info", *, worker: int | None = None
) -> Iterator[None]:
    """Configures logging while the context lasts. Each line of a worker has the worker's number.

    Logs lines from `level` on. Below info, logs only kekd's own lines: those of the libraries can
    contain wrapped keys.

    A thread writes the lines, because a full pipe would block the daemon. At the end, the context
    waits for queued lines, at most one second.
    """
    name = f" worker {worker}:" if worker else ""
    field = {"worker": worker} if worker else {}
    stray = ExitStack()
    handler = logging.StreamHandler(_open_for_json(stray) if form == "json" else sys.stderr)
    handler.setFormatter(
        _Json("{asctime}{levelname}{name}{message}", style="{", static_fields=field)
        if form == "json"
        else _Text(f"{{asctime}} {{levelname}}{name} {{message}}", style="{")
    )
    lines: Queue[Any] = Queue(_MAX_QUEUED_LINES)
    severity = logging.getLevelNamesMapping()[level.upper()]
    others = max(severity, logging.INFO)
    logging.basicConfig(level=others, handlers=[_DroppingQueueHandler(lines)], force=True)
    logging.getLogger("kekd_server").setLevel(severity)
    logging.captureWarnings(capture=True)
    QueueListener(lines, handler).start()
    try:
        yield
    finally:
        stray.close()
        with lines.all_tasks_done:
            lines.all_tasks_done.wait_for(lambda: not lines.unfinished_tasks, _FLUSH_TIMEOUT)


def _open_for_json(stray: ExitStack) -> TextIO:
    """Opens standard error for JSON lines only. All other output to it becomes log lines."""
    return open(stray.enter_context(stray_output.redirect_to_log()), "w", encoding="utf-8")  # noqa: PTH123


class LogThrottle:
    """Limits repeated messages to one a minute, so that calls can't fill the log."""

    def __init__(self) -> None:
        self._logged_at: dict[int, float] = {}
        """By hash, because a client may choose long lines."""

    def is_due(self, line: Hashable) -> bool:
        """Returns True at most once a minute per message."""
        now, key = time.monotonic(), hash(line)
        if now < self._logged_at.get(key, -_THROTTLE_INTERVAL) + _THROTTLE_INTERVAL:
            return False
        if len(self._logged_at) >= _MAX_THROTTLED_LINES:
            self._logged_at.clear()
        self._logged_at[key] = now
        return True


class _UtcTime(logging.Formatter):
    """Formats times like the audit log, so that the lines of both can be sorted together."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")


class _Json(_UtcTime, JsonFormatter):
    pass


class _Text(_UtcTime):
    """Escapes unprintable characters, so that a name that a client chose can't forge a line or
    control a terminal.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


_engines: Final = LogThrottle()


def _is_due(record: logging.LogRecord) -> bool:
    """Throttles the lines of the engines, because any client can make gRPC log tracebacks. Compares
    templates, because messages may quote the client.
    """
    engine = record.name.startswith(("grpc", "pygrpc_native"))
    template = record.getMessage() if record.msg == "%s" else record.msg
    return not engine or _engines.is_due(template)


class _DroppingQueueHandler(QueueHandler):
    """Drops lines while the queue is full, and then logs how many it dropped."""

    _dropped = 0

    def __init__(self, lines: Queue[Any]) -> None:
        super().__init__(lines)
        self.addFilter(_is_due)  # before lines take room in the queue

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The base class formats here, for queues to other processes. Here the handler does it.
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                self.queue.put_nowait(_line(f"{self._dropped} lines were dropped from the log"))
                self._dropped = 0
            self.queue.put_nowait(record)
        except Full:
            self._dropped += 1


def _line(message: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None)
