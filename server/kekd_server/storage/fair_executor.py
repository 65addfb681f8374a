"""Threads that are shared fairly among those whose work is to be done in them."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from kekd_server.model.fair_share import FairShare

_TIMES_FREE: Final = 3
"""An owner may run up to this many times the number of free threads: 12 of 16 alone, 7 beside
another that wants as many."""


class FairExecutor:
    """Runs calls in threads. Owners with calls waiting take turns, whatever the number of each.

    None has all threads, so that others find one free even while every call of one owner hangs.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self.share: Final = threads - threads // (_TIMES_FREE + 1)
        """How many threads one owner has at most."""
        self._places = FairShare(threads, times_free=_TIMES_FREE)
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[Future[Any], Callable[[], Any]]] = {}
        """By owner, whose turn is the sooner the nearer to the front."""

    def submit(self, owner: str, call: Callable[[], Any]) -> Future[Any]:
        """A call whose future is cancelled before it is begun isn't kept any longer."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.setdefault(owner, {})[future] = call
        future.add_done_callback(lambda done: self._forget(owner, done))
        self._pool.submit(self._work)
        return future

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
                    self._places.give_back(owner)

    def _next(self) -> tuple[str, Future[Any], Callable[[], Any]] | None:
        with self._lock:
            for owner, calls in self._waiting.items():
                if self._places.take(owner):
                    future = next(iter(calls))
                    call = calls.pop(future)
                    del self._waiting[owner]
                    if calls:
                        self._waiting[owner] = calls  # at the back
                    return owner, future, call
        return None

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
