"""The locks under which daemons write to a keystore folder."""

import errno
import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final
from zlib import crc32

from kekd_server.model.descriptor import close_quietly
from kekd_server.model.errors import StoreTimeoutError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.writes.steps import CONTENDED, Steps, complete

_LOCKS: Final = 256
_NOT_WRITABLE: Final = (errno.EROFS, errno.EACCES)
_LOCK_TIMEOUT: Final = 5.0
"""Seconds without a write under the lock, after which its holder counts as stopped."""
_MAX_WAIT: Final = 60.0
"""Seconds, however many others write under the lock."""
_MAX_LOCK_RETRY_INTERVAL: Final = 0.002


class WriteLocks:
    """Lock files in one folder. Each serves some of the names.

    The threads of a process queue for a lock, and only the first of them competes with other
    processes: flock(2) has no queue, and of many waiters some would wait for ever.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queues = [threading.Lock() for _ in range(_LOCKS)]

    def hold(self, name: IndexName) -> AbstractContextManager[int]:
        """Locks this name (and the few others that share its lock) for all kekd daemons, up to the
        end of the body. Yields the lock file. Raises `StoreTimeoutError`, and OSError.
        """
        return complete(self.hold_steps(name))

    def hold_steps(self, name: IndexName) -> Steps[AbstractContextManager[int]]:
        """Like `hold`, but pauses before it waits for others. Holds nothing during the pause."""
        number = crc32(name.key.encode()) % _LOCKS
        lock = _Lock(f"{self._folder}/{number}", self._queues[number])
        if not lock.try_hold():
            yield CONTENDED
            if not lock.try_hold():
                yield CONTENDED
                lock.hold()
        return lock

    @contextmanager
    def hold_if_writable(self, name: IndexName) -> Iterator[bool]:
        """Like `hold`, but yields False without the lock if its file can't be written. Then no
        write may follow. Raises `StoreTimeoutError`, and OSError.
        """
        with ExitStack() as held:
            try:
                held.enter_context(self.hold(name))
            except OSError as error:
                if error.errno not in _NOT_WRITABLE:
                    raise
                yield False
            else:
                yield True


class _Lock:
    """A context manager that yields the lock file. Hold the lock first: the end releases it."""

    def __init__(self, path: str, queue: threading.Lock) -> None:
        self._path = path
        self._queue = queue
        self._file = -1

    def try_hold(self) -> bool:
        """Returns whether it got the lock, without waiting. Raises OSError."""
        return self._queue.acquire(blocking=False) and self._lock_file(
            lambda file: _try_flock(file, 0)
        )

    def hold(self) -> None:
        """Waits for the lock. Raises `StoreTimeoutError`, and OSError."""
        _acquire(lambda timeout: self._queue.acquire(timeout=timeout), self._path)
        self._lock_file(self._wait_for_file)

    def __enter__(self) -> int:
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        close_quietly(self._file)
        self._queue.release()

    def _lock_file(self, lock: Callable[[int], bool]) -> bool:
        """Returns what `lock` does. Leaves the queue if the file isn't locked."""
        is_locked = False
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                is_locked = lock(self._file)
            finally:
                if not is_locked:
                    close_quietly(self._file)
        finally:
            if not is_locked:
                self._queue.release()
        return is_locked

    def _wait_for_file(self, file: int) -> bool:
        _acquire(lambda timeout: _try_flock(file, timeout), self._path)
        return True


def _acquire(try_acquire: Callable[[float], bool], path: str) -> None:
    """Waits while others write under the lock, which changes the time of its file. Otherwise the
    wait is short: one process that is stopped during a write would block all threads of every
    daemon.
    """
    if try_acquire(0):
        return
    begin = time.monotonic()
    while True:
        last_write = _last_write(path)
        if try_acquire(_LOCK_TIMEOUT):
            return
        waited = time.monotonic() - begin
        if _last_write(path) == last_write or waited >= _MAX_WAIT:
            raise StoreTimeoutError(
                f"the write timed out: others have held the lock {path} for {waited:.0f} s; find"
                " them with fuser(1) and check whether one is stopped"
            )


def _last_write(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:  # no write has opened it yet
        return 0


def _try_flock(file: int, timeout: float) -> bool:
    """Tries for so many seconds, at least once."""
    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(random.uniform(0, _MAX_LOCK_RETRY_INTERVAL))  # noqa: S311  (no secret)
        else:
            return True
