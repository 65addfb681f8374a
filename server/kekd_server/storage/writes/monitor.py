"""Monitors how the writes to a store end, to decide whether its next check has to try one."""

import time
from typing import Final

from kekd_server.model.errors import (
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)

_MAX_WRITE_SECONDS: Final = 2.0
"""Many times what a disk takes. A write that waits this long for a lock is suspect too; the probe
then succeeds."""

_STORE_ERRORS: Final = (
    OSError,
    StoreMisconfiguredError,
    StoreUnavailableError,
    StoreTimeoutError,
)


class WriteMonitor:
    """Called at the start and the end of each write, with the same object for both."""

    def __init__(self) -> None:
        self._has_failed = False
        self._running: dict[object, float] = {}

    def begin(self, write: object) -> None:
        self._running[write] = time.monotonic()

    def end(self, write: object, error: BaseException | None, *, stores_something: bool) -> None:
        """A removal or a conflict doesn't clear an earlier failure: both succeed on a full disk."""
        del self._running[write]
        if isinstance(error, _STORE_ERRORS):
            self._has_failed = True
        elif error is None and stores_something:
            self._has_failed = False

    def is_suspect(self) -> bool:
        """Whether the last write failed, or one takes so long that it may never end."""
        oldest = time.monotonic() - _MAX_WRITE_SECONDS
        return self._has_failed or any(start < oldest for start in list(self._running.values()))
