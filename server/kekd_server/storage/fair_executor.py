"""Threads that several owners share fairly."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeAlias

from kekd_server.model.fair_share import FairShare

_SHARE_FACTOR: Final = 3
"""An owner may use up to this many times the number of free threads: of 16, it gets 12 alone, or 7
beside another owner that wants as many."""

_Turn: TypeAlias = tuple[str, Future[Any], Callable[[], Any]]


class FairExecutor:
    """Runs calls in threads. Owners take turns, however many calls each of them has waiting.

    No owner gets all threads, so that the others find a free one even if every call of one owner
    hangs.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self.share: Final = threads - threads // (_SHARE_FACTOR + 1)
        """The most threads that one owner gets."""
        self._slots = FairShare(threads, factor=_SHARE_FACTOR)
        self._lock = threading.Lock()
        # Not a dict, which scans past all deleted keys to find its first one.
        self._waiting: dict[str, OrderedDict[Future[Any], Callable[[], Any]]] = {}
        """By owner. The first owner has the next turn."""
        self._is_waking = False
        """Whether a thread was woken, and hasn't looked for a call yet."""
        self._is_shut_down = False

    def submit(self, owner: str, call: Callable[[], Any]) -> Future[Any]:
        """Queues a call. Cancelling its future before it starts removes it. Raises RuntimeError
        after the shutdown.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("the threads were shut down")
            self._waiting.setdefault(owner, OrderedDict())[future] = call
            must_wake = self._must_wake()
        future.add_done_callback(lambda done: self._remove(owner, done))
        if must_wake:
            self._wake()
        return future

    def shutdown(self) -> None:
        """Starts no more calls. Doesn't wait for running ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._is_shut_down = True
            waiting = [future for calls in self._waiting.values() for future in calls]
            self._waiting.clear()
        for future in waiting:
            future.cancel()

    def _work(self) -> None:
        """Runs calls until none may start now. A busy thread starts the rest when it is free."""
        with self._lock:
            self._is_waking = False
        while (turn := self._next()) is not None:
            owner, future, call = turn
            try:
                _run(future, call)
            finally:
                with self._lock:
                    self._slots.give_back(owner)

    def _next(self) -> _Turn | None:
        with self._lock:
            turn = self._take()
            must_wake = self._must_wake()
        if must_wake:  # another thread starts the next call
            self._wake()
        return turn

    def _take(self) -> _Turn | None:
        for owner, calls in self._waiting.items():
            if self._slots.take(owner):
                future, call = calls.popitem(last=False)
                del self._waiting[owner]
                if calls:
                    self._waiting[owner] = calls  # at the back
                return owner, future, call
        return None

    def _must_wake(self) -> bool:
        """Whether a call may start, and no other thread is about to look for it. Threads wake one
        after the other: many at once would find no call, as busy threads take it first.
        """
        if self._is_waking or not any(map(self._slots.has_room, self._waiting)):
            return False
        self._is_waking = True
        return True

    def _wake(self) -> None:
        try:
            self._pool.submit(self._work)
        except RuntimeError:  # after the shutdown, or if no thread can be started
            with self._lock:
                self._is_waking = False

    def _remove(self, owner: str, future: Future[Any]) -> None:
        with self._lock:
            if calls := self._waiting.get(owner):
                calls.pop(future, None)
                if not calls:
                    del self._waiting[owner]


def _run(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  (raised to the caller)
        future.set_exception(error)
    else:
        future.set_result(result)
