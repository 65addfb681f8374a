"""Threads that are shared fairly among those whose work is to be done in them."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

_TIMES_FREE: Final = 3
"""An owner may have so many times as many threads as are free: alone 12 of 16, and with another who
wants as many, 7."""


class FairExecutor:
    """Runs calls in threads. Owners with calls waiting take turns, whatever the number of each.

    None has all threads, so that others find one free even while every call of one owner hangs.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self.share: Final = threads - threads // (_TIMES_FREE + 1)
        """How many threads one owner has at most."""
        self._free = threads
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[Future[Any], Callable[[], Any]]] = {}
        """By owner, whose turn is the sooner the nearer to the front."""
        self._running: Counter[str] = Counter()

    def submit(self, owner: str, call: Callable[[], Any]) -> Future[Any]:
        """A call whose future is cancelled before it is begun isn't kept any longer."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.setdefault(owner, {})[future] = call
        future.add_done_callback(lambda done: self._forget(owner, done))
        self._pool.submit(self._work)
        return future

    @property
    def waiting(self) -> int:
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def shutdown(self) -> None:
        """Doesn't wait for what is running, and begins nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            waiting = [future for calls in self._waiting.values() for future in calls]
            self._waiting.clear()
        for future in waiting:
            future.cancel()

    def _work(self) -> None:
        """Until nothing is left that may be begun now. What is left waits for a thread that is busy
        now, and is begun by it afterwards.
        """
        while (turn := self._next()) is not None:
            owner, future, call = turn
            if self._waiting:  # more may be begun than this thread alone can
                with suppress(RuntimeError):  # after the shutdown
                    self._pool.submit(self._work)
            try:
                _run(future, call)
            finally:
                with self._lock:
                    self._finish(owner)

    def _next(self) -> tuple[str, Future[Any], Callable[[], Any]] | None:
        with self._lock:
            for owner, calls in self._waiting.items():
                if self._running[owner] < _TIMES_FREE * self._free:
                    future = next(iter(calls))
                    self._running[owner] += 1
                    self._free -= 1
                    call = calls.pop(future)
                    del self._waiting[owner]
                    if calls:
                        self._waiting[owner] = calls  # at the back
                    return owner, future, call
        return None

    def _finish(self, owner: str) -> None:
        self._free += 1
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]

    def _forget(self, owner: str, future: Future[Any]) -> None:
        with self._lock:
            calls = self._waiting.get(owner, {})
            calls.pop(future, None)
            if not calls:
                self._waiting.pop(owner, None)


def _run(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  (its caller's to see to)
        future.set_exception(error)
    else:
        future.set_result(result)
