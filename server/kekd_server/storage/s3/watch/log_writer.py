"""Logs this daemon's writes for other daemons, in the background."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from kekd_server.observability.logs import LogThrottle
from kekd_server.storage.s3.errors import RequestError
from kekd_server.storage.s3.watch.change_log import MAX_KEYS, RETAINED, S3ChangeLog

FLUSH_INTERVAL: Final = 0.2
_MAX_DELAY: Final = 5.0
_MAX_ATTEMPTS: Final = 8
"""Numbers that an entry tries before the writer pauses, as after a failure."""
_SEARCH_INTERVAL: Final = 10.0
"""Far less than other daemons need to write `RETAINED` entries."""
_CLOSE_TIMEOUT: Final = 1.0
_MAX_PENDING: Final = 100_000
"""Keys that wait while S3 is down. Watchers find the writes of others in a listing."""

_log = logging.getLogger(__name__)


class S3LogWriter:
    """Collects keys for `FLUSH_INTERVAL` seconds, and writes them as the entry after the last one.
    If another daemon has taken the number, it finds the last one and tries again. The more attempts
    an entry took, the longer it collects keys for the next one, because all daemons together can
    write only one entry after the other.
    """

    def __init__(self, change_log: S3ChangeLog, store_name: str) -> None:
        self._change_log = change_log
        self._store_name = store_name
        self._lock = threading.Lock()
        self._pending: dict[str, bool] = {}
        """By key, whether the write was certainly applied."""
        self._thread: threading.Thread | None = None
        self._has_keys, self._is_closed = threading.Event(), threading.Event()
        self._last: int | None = None
        """The number of the last entry that is known."""
        self._next_search = 0.0
        self._written: deque[int] = deque(maxlen=RETAINED)
        self._throttle = LogThrottle()

    def append(self, key: str, *, is_certain: bool = True) -> None:
        """Call it after the write, from any thread. It doesn't block. `is_certain`: whether the
        write was applied, so that this daemon's own watchers know of it.
        """
        with self._lock:
            if not self._change_log.is_on or len(self._pending) >= _MAX_PENDING:
                return
            self._pending[key] = is_certain and self._pending.get(key, True)
            if not self._thread:
                name = f"{self._store_name} log"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
        self._has_keys.set()

    def has_written(self, number: int) -> bool:
        """Whether an entry has only writes that this daemon has published itself."""
        return number in self._written

    def close(self) -> None:
        """Writes what is pending, if that takes less than a second."""
        self._is_closed.set()
        self._has_keys.set()
        if self._thread:
            self._thread.join(_CLOSE_TIMEOUT)

    def _run(self) -> None:
        ceiling = delay = FLUSH_INTERVAL
        is_closed = False
        while not is_closed:
            self._has_keys.wait()
            is_closed = self._is_closed.wait(delay)
            if attempts := self._write_pending():
                ceiling = delay = attempts * FLUSH_INTERVAL
            else:
                ceiling = min(2 * ceiling, _MAX_DELAY)
                delay = random.uniform(ceiling / 2, ceiling)  # noqa: S311

    def _write_pending(self) -> int:
        """Returns the number of attempts that it took, or 0 if it failed."""
        try:
            for attempt in range(1, _MAX_ATTEMPTS + 1):
                if self._write_next():
                    return attempt
        except (RequestError, BotoCoreError, ClientError) as error:
            if self._throttle.is_due("failure"):
                _log.warning(
                    "%s: cannot write the change log: %s; until it can, watchers of other daemons"
                    " notice writes later",
                    self._store_name,
                    error,
                )
        return 0

    def _write_next(self) -> bool:
        """Writes the next entry. If its number is taken, it returns false, and the keys are in the
        next attempt with those that are appended by then.
        """
        keys = self._take()
        is_done = False
        try:
            is_done = not keys or self._write(keys)
        finally:
            if not is_done:
                self._put_back(keys)
        return is_done

    def _take(self) -> dict[str, bool]:
        with self._lock:
            keys = dict(islice(self._pending.items(), MAX_KEYS))
            for key in keys:
                del self._pending[key]
            if not self._pending:
                self._has_keys.clear()
        return keys

    def _put_back(self, keys: Mapping[str, bool]) -> None:
        with self._lock:
            self._pending = {
                key: keys.get(key, True) and self._pending.get(key, True)
                for key in (*keys, *self._pending)
            }
        self._has_keys.set()

    def _write(self, keys: Mapping[str, bool]) -> bool:
        number = self._find_last() + 1
        if not self._change_log.write(number, keys):
            self._next_search = 0.0  # other daemons were faster
            return False
        if all(keys.values()):
            self._written.append(number)
        self._last = number
        return True

    def _find_last(self) -> int:
        """Looks for the entries of other daemons now and then: their entries may have replaced the
        one after the last known one, or somebody may have emptied the log.
        """
        now = time.monotonic()
        if self._last is None:
            self._change_log.remove_old()
        if self._last is None or now >= self._next_search:
            self._last = self._change_log.find_last(after=self._last or 0)
            self._next_search = now + _SEARCH_INTERVAL
        return self._last
