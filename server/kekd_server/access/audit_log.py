"""The record of who did what, a JSON object a line.

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

_MOST_WAITING: Final = 8 * 2**20
"""Characters, of which a line has some 400."""
_FOR_WRITES: Final = 2**20
"""As many of them are kept for lines that somebody waits for."""
_PATIENCE_SECONDS: Final = 5.0
"""How long anybody waits for a line: beyond it the output is stuck."""
_LITTLE_SECONDS: Final = 0.2
"""The same while it is, so that a caller is told why and not that nobody answers."""
_GATHERING_SECONDS: Final = 0.005
"""For so long lines that nobody waits for are gathered: to wake the thread for each would cost
more than all else that a get does."""
_LOOK_SECONDS: Final = 1.0
"""How often it is looked whether the file was moved."""
_LAST_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


class _Batch(NamedTuple):
    lines: Sequence[str]
    written: asyncio.Future[bool] | None
    """Is told whether they are, if anybody waits for that."""


class AuditLog:
    """Writes lines in a thread of its own, as a disk may hang and a pipe may be full.

    Written means handed to the kernel: a crash of the machine may lose the last lines, one of the
    daemon doesn't. While lines can't be written, the daemon's log says so, once.
    """

    def __init__(self, file: Path | None, metrics: Metrics) -> None:
        """Without a file, to standard output. Raises OSError if the file can't be written."""
        self._file = file
        self._name = file or "standard output"
        self._lines = metrics.audit.lines
        self._failures = metrics.audit.failures
        self._bytes = metrics.audit.bytes
        self._free_bytes = metrics.audit.free_bytes
        self._output = self._open()
        self._looked = time.monotonic()
        self._torn = False
        self._error_message = ""
        self._reopen = threading.Event()
        self._gathered: list[str] = []
        self._waiting: SimpleQueue[_Batch | None] = SimpleQueue()
        self._room = _MOST_WAITING
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def post(self, lines: Sequence[str]) -> None:
        """Has them written in a few milliseconds."""
        if lines and not self._gathered:
            asyncio.get_running_loop().call_later(_GATHERING_SECONDS, self._hand_over_gathered)
        self._gathered += lines

    async def write(self, lines: Sequence[str]) -> None:
        """Returns when they are written. Raises `AuditUnavailableError` if they can't be, or if it
        takes too long.
        """
        self._hand_over_gathered()
        written = asyncio.get_running_loop().create_future()
        try:
            if self._hand_over(lines, written):
                async with asyncio.timeout(
                    _LITTLE_SECONDS if self._error_message else _PATIENCE_SECONDS
                ):
                    if await written:
                        return
        except TimeoutError:
            self._say(f"{self._name}: not written in {_PATIENCE_SECONDS:g} s")
        raise AuditUnavailableError

    @property
    def error(self) -> str:
        """Why lines can't be written just now; empty if they can."""
        return self._error_message

    def reopen(self) -> None:
        """Goes on in a new file, if the old one was moved away."""
        self._reopen.set()
        self._waiting.put(_Batch([], None))

    def close(self) -> None:
        """Waits for what is to be written, but not long."""
        self._hand_over_gathered()
        self._waiting.put(None)
        self._thread.join(_LAST_SECONDS)

    def _hand_over_gathered(self) -> None:
        lines, self._gathered = self._gathered, []
        if lines:  # somebody who waits may have had them handed over meanwhile
            self._hand_over(lines, None)

    def _hand_over(self, lines: Sequence[str], written: asyncio.Future[bool] | None) -> bool:
        """Whether there is room for them."""
        size = sum(map(len, lines))
        with self._counting:
            fits = size <= self._room - (0 if written else _FOR_WRITES)
            self._room -= size * fits
        if fits:
            self._waiting.put(_Batch(lines, written))
        else:
            self._failures.inc(len(lines))
            self._say(f"{self._name}: it takes no more, and lines are lost")
        return fits

    def _write_all(self) -> None:
        """Until the end."""
        while True:
            try:
                batch = self._waiting.get(timeout=_LOOK_SECONDS)
            except Empty:
                batch = _Batch([], None)
            if batch is None:
                break
            self._write(batch)

    def _write(self, batch: _Batch) -> None:
        content = "".join(batch.lines).encode()
        is_written = self._written(content)
        if is_written:
            self._bytes.inc(len(content))
        with self._counting:
            self._room += sum(map(len, batch.lines))
        (self._lines if is_written else self._failures).inc(len(batch.lines))
        if batch.written:
            # The loop may be at its end, and then nobody waits any more.
            with suppress(RuntimeError):
                batch.written.get_loop().call_soon_threadsafe(_tell, batch.written, is_written)

    def _written(self, lines: bytes) -> bool:
        try:
            self._follow()
            if not lines:
                return True
            lines = b"\n" * self._torn + lines
            while lines:  # a disk that fills up takes a part first
                lines = lines[os.write(self._output, lines) :]
                self._torn = bool(lines)
        except OSError as error:
            self._say(f"{self._name}: {error.strerror}")
            return False
        self._say("")
        return True

    def _say(self, error_message: str) -> None:
        """Once of each trouble, whatever comes of it meanwhile."""
        if error_message and not self._error_message:
            _log.error("the audit can't be written: %s", error_message)
        if self._error_message and not error_message:
            _log.warning("the audit is written again")
        self._error_message = error_message

    def _follow(self) -> None:
        """The file of that name, be it a new one."""
        now = time.monotonic()
        asked = self._reopen.is_set()
        if not self._file or not (
            asked or self._error_message or now - self._looked > _LOOK_SECONDS
        ):
            return
        self._reopen.clear()
        self._looked = now
        self._measure()
        if not self._is_there(self._file):
            output, self._output = self._output, self._open()
            os.close(output)

    def _measure(self) -> None:
        """How much room there is for more."""
        if stat.S_ISREG(os.fstat(self._output).st_mode):
            system = os.fstatvfs(self._output)
            free = system.f_bavail * system.f_frsize
            self._free_bytes.labels(str(self._file)).set(free)

    def _is_there(self, file: Path) -> bool:
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


def _tell(written: asyncio.Future[bool], is_written: bool) -> None:  # noqa: FBT001  (a callback's)
    if not written.done():  # as it is once who waited was cancelled
        written.set_result(is_written)
