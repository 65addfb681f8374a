"""How the writes to a store end, which says when its next check has to try one."""

import threading
import time
from typing import Final

from kekd_server.model.errors import (
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)

_HANG_SECONDS: Final = 2.0
"""Many times what a disk takes. One that waits for a lock as long is told from it by the probe."""

_FAILURES: Final = (OSError, StoreMisconfiguredError, StoreUnavailableError, StoreTimeoutError)


class WriteMonitor:
    """Told of the beginning and the end of each write, by the thread that makes it."""

    def __init__(self) -> None:
        self._has_failed = False
        self._running: dict[int, float] = {}

    def begin(self) -> None:
        self._running[threading.get_ident()] = time.monotonic()

    def end(self, error: BaseException | None, *, stores_something: bool) -> None:
        """A removal that succeeds tells nothing about a disk that is full, nor does a conflict."""
        del self._running[threading.get_ident()]
        if isinstance(error, _FAILURES):
            self._has_failed = True
        elif error is None and stores_something:
            self._has_failed = False

    def is_suspect(self) -> bool:
        """Whether the last write failed, or one takes so long that it may never end."""
        oldest = time.monotonic() - _HANG_SECONDS
        return self._has_failed or any(it < oldest for it in list(self._running.values()))
