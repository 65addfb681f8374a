"""Writes the audit log, one JSON object a line.

    {"time": "2026-01-31T09:30:00.000000+00:00", "event": "end", "request_id": "…", "identity": "…",
     "peer": "…", "method": "push", "store": "disk:/…", "decision": "allowed", "rule": "…",
     "index": "…", "etag_before": "…", "etag_after": "…", "code": "OK", "duration_ms": 1.5}

docs/access.md describes each field.
"""

import asyncio
import errno
import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from kekd_server.model.errors import AuditUnavailableError
from kekd_server.observability.metrics import Metrics

_MAX_BUFFERED_CHARACTERS: Final = 8 * 2**20
"""A line has about 400."""
_RESERVED: Final = 2**20
"""The part of the buffer that only lines with a waiting call may use."""
_WRITE_TIMEOUT: Final = 5.0
"""Seconds that a call waits for its line. If it takes longer, the output is blocked."""
_BLOCKED_WRITE_TIMEOUT: Final = 0.2
"""The same while the output is known to be blocked, so that callers get an error in time."""
_COLLECT_INTERVAL: Final = 0.005
"""Seconds for which enqueued lines are collected. Waking the thread for each line would take longer
than the rest of a get."""
_MAX_WRITE_CHARACTERS: Final = 2**16
"""Lines beyond this are for the next write, so that a slow output doesn't delay the first ones."""
_CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of whether the file was moved."""
_CLOSE_TIMEOUT: Final = 2.0

_log = logging.getLogger(__name__)


class _Batch(NamedTuple):
    text: str
    lines: int
    """The number of lines in the text."""
    written: asyncio.Future[bool] | None
    """Resolves to whether the lines were written. None if no call waits for them."""


class AuditLog:
    """Writes in a thread of its own, because a disk may hang and a pipe may be full.

    Lines are written without fsync: a crash of the daemon loses none, a crash of the machine may
    lose the last ones. The daemon's log says once when the audit log fails, and once when it works
    again.
    """

    def __init__(self, file: Path | None, metrics: Metrics) -> None:
        """Without a file, writes to standard output. Raises OSError if the file can't be opened."""
        self._file = file
        self._name = file or "standard output"
        self._lines = metrics.audit.lines
        self._failures = metrics.audit.failures
        self._bytes = metrics.audit.bytes
        self._free_bytes = metrics.audit.free_bytes
        self._output = self._open()
        self._checked = time.monotonic()
        self._has_partial_line = False
        self._error_message = ""
        self._reopen = threading.Event()
        self._collected: list[str] = []
        self._waiting: list[_Batch] = []
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()
        self._free_characters = _MAX_BUFFERED_CHARACTERS
        self._room_lock = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def enqueue(self, lines: Sequence[str]) -> None:
        """Queues lines, which are written a few milliseconds later."""
        if lines and not self._collected:
            asyncio.get_running_loop().call_later(_COLLECT_INTERVAL, self._queue_collected)
        self._collected += lines

    async def write_and_wait(self, lines: Sequence[str]) -> None:
        """Returns when they are written. Raises `AuditUnavailableError` if that fails or takes too
        long.
        """
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        if not self._waiting:
            # In the loop's next iteration, so that calls that arrive together wake the thread once.
            loop.call_soon(self._queue_waiting)
        self._waiting.append(_make_batch(lines, written))
        if not await written:
            raise AuditUnavailableError

    @property
    def error(self) -> str:
        """Why the last write failed. Empty if it didn't."""
        return self._error_message

    def reopen(self) -> None:
        """Opens a new file if the old one was moved away."""
        self._reopen.set()
        self._queue.put(_make_batch([]))

    def close(self) -> None:
        """Waits for the remaining lines, but at most `_CLOSE_TIMEOUT` seconds."""
        self._queue_waiting()
        self._queue.put(None)
        self._thread.join(_CLOSE_TIMEOUT)

    def _queue_collected(self) -> None:
        lines, self._collected = self._collected, []
        if lines:  # `_queue_waiting` may have queued them already
            self._queue_batch(_make_batch(lines))

    def _queue_waiting(self) -> None:
        self._queue_collected()
        timeout = _BLOCKED_WRITE_TIMEOUT if self._error_message else _WRITE_TIMEOUT
        batches, self._waiting = self._waiting, []
        for batch in batches:
            if not self._queue_batch(batch):
                _resolve([batch.written], is_written=False)
        if waiting := [batch.written for batch in batches if batch.written]:
            # One timer for all of them: each takes as long as the rest of the wait.
            waiting[0].get_loop().call_later(timeout, self._expire, waiting, timeout)

    def _expire(self, waiting: Sequence[asyncio.Future[bool]], timeout: float) -> None:
        """Ends the waits of calls whose lines aren't written yet."""
        if not all(written.done() for written in waiting):
            self._report_blocked(f"{self._name}: not written in {timeout:g} s")
            _resolve(waiting, is_written=False)

    def _queue_batch(self, batch: _Batch) -> bool:
        """Returns whether there was room for it."""
        size = len(batch.text)
        with self._room_lock:
            fits = size <= self._free_characters - (0 if batch.written else _RESERVED)
            if fits:
                self._free_characters -= size
        if fits:
            self._queue.put(batch)
        else:
            self._failures.inc(batch.lines)
            self._report_blocked(f"{self._name}: the buffer is full, and lines are lost")
        return fits

    def _write_all(self) -> None:
        is_open = True
        while is_open:
            batches = self._take_batches()
            is_open = None not in batches
            self._write([batch for batch in batches if batch])

    def _take_batches(self) -> list[_Batch | None]:
        """Returns the batches that wait to be written; none if none arrives in time."""
        batches: list[_Batch | None] = []
        characters = 0
        with suppress(Empty):
            batch = self._queue.get(timeout=_CHECK_INTERVAL)
            while True:
                batches.append(batch)
                characters += len(batch.text) if batch else 0
                if characters >= _MAX_WRITE_CHARACTERS:
                    break
                batch = self._queue.get_nowait()
        return batches

    def _write(self, batches: Sequence[_Batch]) -> None:
        text = "".join(batch.text for batch in batches)
        content = text.encode()
        is_written = self._write_bytes(content)
        if is_written:
            self._bytes.inc(len(content))
        with self._room_lock:
            self._free_characters += len(text)
        (self._lines if is_written else self._failures).inc(sum(batch.lines for batch in batches))
        if waiting := [batch.written for batch in batches if batch.written]:
            # The loop may be closed, and then no call waits any more.
            with suppress(RuntimeError):
                waiting[0].get_loop().call_soon_threadsafe(_resolve, waiting, is_written)

    def _write_bytes(self, lines: bytes) -> bool:
        try:
            self._reopen_if_moved()
            if not lines:
                return True
            lines = b"\n" * self._has_partial_line + lines
            while lines:  # a disk that fills up may take a part
                lines = lines[os.write(self._output, lines) :]
                self._has_partial_line = bool(lines)
        except OSError as error:
            self._report(f"{self._name}: {error.strerror}")
            return False
        self._report("")
        return True

    def _report_blocked(self, error_message: str) -> None:
        """Keeps an earlier error, which may be the cause."""
        self._report(self._error_message or error_message)

    def _report(self, error_message: str) -> None:
        """Logs the first failure, and the first success after it."""
        if error_message and not self._error_message:
            _log.error("the audit log cannot be written: %s", error_message)
        if self._error_message and not error_message:
            _log.warning("the audit log is written again")
        self._error_message = error_message

    def _reopen_if_moved(self) -> None:
        now = time.monotonic()
        is_requested = self._reopen.is_set()
        if not self._file or not (
            is_requested or self._error_message or now - self._checked > _CHECK_INTERVAL
        ):
            return
        self._reopen.clear()
        self._checked = now
        self._measure()
        if not self._is_current(self._file):
            output, self._output = self._output, self._open()
            os.close(output)

    def _measure(self) -> None:
        """Reports the free space of the filesystem."""
        if stat.S_ISREG(os.fstat(self._output).st_mode):
            system = os.fstatvfs(self._output)
            free = system.f_bavail * system.f_frsize
            self._free_bytes.labels(str(self._file)).set(free)

    def _is_current(self, file: Path) -> bool:
        try:
            return os.path.samestat(file.stat(), os.fstat(self._output))
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        if not self._file:
            if sys.stdout is None:  # it was closed, as by `>&-`
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            return sys.stdout.fileno()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(str(self._file), flags, 0o600)


def _make_batch(lines: Sequence[str], written: asyncio.Future[bool] | None = None) -> _Batch:
    return _Batch("".join(lines), len(lines), written)


def _resolve(waiting: Sequence[asyncio.Future[bool] | None], is_written: bool) -> None:  # noqa: FBT001
    for written in waiting:
        if written and not written.done():  # the waiting call may have been cancelled
            written.set_result(is_written)
