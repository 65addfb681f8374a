"""Writes the daemon's log to standard error."""

import logging
import time
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Any, Final, Literal

from kekd_common.printable import printable
from kekd_server.observability.utc_formatter import UtcFormatter

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
    stray = ExitStack()
    handler = _make_json_handler(stray, worker) if form == "json" else _make_text_handler(worker)
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


def _make_json_handler(stray: ExitStack, worker: int | None) -> logging.Handler:
    from kekd_server.observability.json_log import make_handler  # noqa: PLC0415  (slow to import)

    return make_handler(stray, worker)


def _make_text_handler(worker: int | None) -> logging.Handler:
    name = f" worker {worker}:" if worker else ""
    handler = logging.StreamHandler()
    handler.setFormatter(_Text(f"{{asctime}} {{levelname}}{name} {{message}}", style="{"))
    return handler


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


class _Text(UtcFormatter):
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
