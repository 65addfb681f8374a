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
from kekd_server.storage.s3.change_log import MAX_KEYS, RETAINED, S3ChangeLog
from kekd_server.storage.s3.errors import RequestError

FLUSH_INTERVAL: Final = 0.2
_MAX_DELAY: Final = 5.0
_MAX_ATTEMPTS: Final = 8
"""Numbers that an entry tries before it waits for the next flush."""
_MAX_CONFLICT_DELAY: Final = 0.1
_SEARCH_INTERVAL: Final = 10.0
"""Far less than other daemons need to write `RETAINED` entries."""
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
            keys = self._take()
            if not keys or self._write(keys):
                ceiling = delay = FLUSH_INTERVAL
            else:
                self._put_back(keys)
                ceiling = min(2 * ceiling, _MAX_DELAY)
                delay = random.uniform(ceiling / 2, ceiling)  # noqa: S311

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
            self._pending = {**keys, **self._pending}
        self._has_keys.set()

    def _write(self, keys: Mapping[str, bool]) -> bool:
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

    def _write_next(self, keys: Mapping[str, bool]) -> bool:
        """Tries the next number, and the next free one if other daemons are faster."""
        last = self._find_last()
        for _ in range(_MAX_ATTEMPTS):
            last += 1
            if self._change_log.write(last, keys):
                if all(keys.values()):
                    self._written.append(last)
                self._last = last
                return True
            last = self._change_log.find_last(after=last)
            self._last = last
            time.sleep(random.uniform(0, _MAX_CONFLICT_DELAY))  # noqa: S311
        return False

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
