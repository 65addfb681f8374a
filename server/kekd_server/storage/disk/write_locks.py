"""The locks under which daemons write to a keystore folder."""

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

from kekd_server.model.descriptor import close_quietly
from kekd_server.model.errors import StoreTimeoutError
from kekd_server.model.index_name import IndexName

_LOCKS: Final = 256
_LOCK_TIMEOUT: Final = 5.0
_MAX_LOCK_RETRY_INTERVAL: Final = 0.002


class WriteLocks:
    """Lock files in one folder. Each serves some of the names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, name: IndexName) -> Iterator[int]:
        """Locks this name (and the few others that share its lock) for all kekd daemons. Yields
        the lock file. Raises `StoreTimeoutError`, and OSError.
        """
        path = self._folder / str(crc32(name.key.encode()) % _LOCKS)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _acquire(lock, path)
            yield lock
        finally:
            close_quietly(lock)


def _acquire(lock: int, path: Path) -> None:
    """Waits for a limited time: otherwise, one process that is stopped during a write would block
    all threads of every daemon.
    """
    end = time.monotonic() + _LOCK_TIMEOUT
    while time.monotonic() < end:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(random.uniform(0, _MAX_LOCK_RETRY_INTERVAL))  # noqa: S311  (no secret)
        else:
            return
    raise StoreTimeoutError(
        f"the write timed out: another process has held the lock {path} for"
        f" {_LOCK_TIMEOUT:g} s; find it with fuser(1) and check whether it is stopped"
    )
