"""Logs this daemon's writes for other daemons, in the background."""

import logging
import random
import threading
from collections import deque
from collections.abc import Collection
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from kekd_server.observability.logs import LogThrottle
from kekd_server.storage.s3.change_log import MAX_KEYS, RETAINED, S3ChangeLog
from kekd_server.storage.s3.errors import RequestError

FLUSH_INTERVAL: Final = 0.2
_MAX_DELAY: Final = 5.0
_CLOSE_TIMEOUT: Final = 1.0
_MAX_PENDING: Final = 100_000
"""Keys that wait while S3 is down. Watchers find the writes of others in a listing."""

_log = logging.getLogger(__name__)


class S3LogWriter:
    """Collects keys for `FLUSH_INTERVAL` seconds, and writes them as the entry after the last one.
    If another daemon has taken the number, it finds the last one and tries again.
    """

    def __init__(self, change_log: S3ChangeLog, store_name: str) -> None:
        self._change_log = change_log
        self._store_name = store_name
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._thread: threading.Thread | None = None
        self._has_keys, self._is_closed = threading.Event(), threading.Event()
        self._last: int | None = None
        """The number of the last entry that is known."""
        self._written: deque[int] = deque(maxlen=RETAINED)
        self._throttle = LogThrottle()

    def append(self, key: str) -> None:
        """Call it after the write, from any thread. It doesn't block."""
        with self._lock:
            if not self._change_log.is_on or len(self._pending) >= _MAX_PENDING:
                return
            self._pending.add(key)
            if not self._thread:
                name = f"{self._store_name} log"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
        self._has_keys.set()

    def has_written(self, number: int) -> bool:
        return number in self._written

    def close(self) -> None:
        """Writes what is pending, if that takes less than a second."""
        self._is_closed.set()
        self._has_keys.set()
        if self._thread:
            self._thread.join(_CLOSE_TIMEOUT)

    def _run(self) -> None:
        delay, is_closed = FLUSH_INTERVAL, False
        while not is_closed:
            self._has_keys.wait()
            is_closed = self._is_closed.wait(delay)
            keys = self._take()
            if not keys or self._write(keys):
                delay = FLUSH_INTERVAL
            else:
                self._put_back(keys)
                delay = random.uniform(0, min(2 * delay, _MAX_DELAY))  # noqa: S311

    def _take(self) -> Collection[str]:
        with self._lock:
            keys = [self._pending.pop() for _ in range(min(len(self._pending), MAX_KEYS))]
            if not self._pending:
                self._has_keys.clear()
        return keys

    def _put_back(self, keys: Collection[str]) -> None:
        with self._lock:
            self._pending.update(keys)
        self._has_keys.set()

    def _write(self, keys: Collection[str]) -> bool:
        try:
            return self._write_next(keys)
        except (RequestError, BotoCoreError, ClientError) as error:
            if self._throttle.is_due("failure"):
                _log.warning(
                    "%s: cannot write the change log: %s; until it can, watchers of other daemons"
                    " notice writes later",
                    self._store_name,
                    error,
                )
            return False

    def _write_next(self, keys: Collection[str]) -> bool:
        if self._last is None:
            self._last = self._change_log.find_last()
        if not self._change_log.write(self._last + 1, keys):
            self._last = self._change_log.find_last(after=self._last)
            return False
        self._last += 1
        self._written.append(self._last)
        return True
