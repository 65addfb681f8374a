"""Where the daemon's log goes and what a line looks like."""

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

_MOST_WAITING: Final = 2_000
_LAST_SECONDS: Final = 1.0
_SELDOM_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 10_000


@contextmanager
def configured(form: Literal["text", "json"], *, worker: int | None = None) -> Iterator[None]:
    """Logs to standard error, a line an event; JSON lines carry the event's fields as well. Of
    several workers, each names itself.

    The lines are written in a thread of their own: where nobody reads standard error, a full pipe
    would stop the daemon at its next line. The end waits for them, but not for long.
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
    lines: Queue[Any] = Queue(_MOST_WAITING)
    logging.basicConfig(level=logging.INFO, handlers=[_Unblocking(lines)], force=True)
    logging.captureWarnings(capture=True)
    QueueListener(lines, handler).start()
    try:
        yield
    finally:
        stray.close()
        with lines.all_tasks_done:
            lines.all_tasks_done.wait_for(lambda: not lines.unfinished_tasks, _LAST_SECONDS)


def _open_for_json(stray: ExitStack) -> TextIO:
    """Standard error, for JSON lines alone: all other output becomes log lines."""
    return open(stray.enter_context(stray_output.logged()), "w", encoding="utf-8")  # noqa: PTH123


class LogThrottle:
    """Keeps what may come at every call from filling the log: the same is due once a minute."""

    def __init__(self) -> None:
        self._told: dict[int, float] = {}
        """By their hashes, as lines may be long and of a caller's choosing."""

    def is_due(self, line: Hashable) -> bool:
        """And isn't any more then: to be called by who logs it."""
        now, key = time.monotonic(), hash(line)
        if now < self._told.get(key, -_SELDOM_SECONDS) + _SELDOM_SECONDS:
            return False
        if len(self._told) >= _MOST_REMEMBERED:
            self._told.clear()
        self._told[key] = now
        return True


class _UtcTime(logging.Formatter):
    """Has the time as the audit has it, so that lines of both can be put in order."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")


class _Json(_UtcTime, JsonFormatter):
    pass


class _Text(_UtcTime):
    """Shows what isn't printable by its escape, as names are of their callers' choosing: none makes
    a line of its own, or steers a terminal.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


_engines: Final = LogThrottle()


def _is_due(record: logging.LogRecord) -> bool:
    """Any caller can have gRPC log a traceback at will, so each template is logged once a minute.
    Messages may quote the caller, so templates are compared.
    """
    engine = record.name.startswith(("grpc", "pygrpc_native"))
    template = record.getMessage() if record.msg == "%s" else record.msg
    return not engine or _engines.is_due(template)


class _Unblocking(QueueHandler):
    """Leaves out lines that there is no room for, and says so as soon as there is."""

    _left_out = 0

    def __init__(self, lines: Queue[Any]) -> None:
        super().__init__(lines)
        self.addFilter(_is_due)  # before they take room in the queue

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The base class formats here, for queues to other processes; ours has the handler do it.
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._left_out:
                self.queue.put_nowait(_line(f"{self._left_out} lines were left out of the log"))
                self._left_out = 0
            self.queue.put_nowait(record)
        except Full:
            self._left_out += 1


def _line(message: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None)
