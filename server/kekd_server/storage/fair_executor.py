"""Threads that several owners share fairly."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from kekd_server.model.fair_share import FairShare

_SHARE_FACTOR: Final = 3
"""An owner may use up to this many times the number of free threads: of 16, it gets 12 alone, or 7
beside another owner that wants as many."""


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
        self._waiting: dict[str, dict[Future[Any], Callable[[], Any]]] = {}
        """By owner. The first owner has the next turn."""
        self._is_shut_down = False

    def submit(self, owner: str, call: Callable[[], Any]) -> Future[Any]:
        """Queues a call. Cancelling its future before it starts removes it. Raises RuntimeError
        after the shutdown.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("the threads were shut down")
            self._waiting.setdefault(owner, {})[future] = call
            may_start = self._slots.has_room(owner)
        future.add_done_callback(lambda done: self._remove(owner, done))
        if may_start:  # otherwise a busy thread runs it
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
        while (turn := self._next()) is not None:
            owner, future, call = turn
            if self._may_start():  # another thread starts the next call
                self._wake()
            try:
                _run(future, call)
            finally:
                with self._lock:
                    self._slots.give_back(owner)

    def _next(self) -> tuple[str, Future[Any], Callable[[], Any]] | None:
        with self._lock:
            for owner, calls in self._waiting.items():
                if self._slots.take(owner):
                    future = next(iter(calls))
                    call = calls.pop(future)
                    del self._waiting[owner]
                    if calls:
                        self._waiting[owner] = calls  # at the back
                    return owner, future, call
        return None

    def _wake(self) -> None:
        with suppress(RuntimeError):  # after the shutdown
            self._pool.submit(self._work)

    def _may_start(self) -> bool:
        with self._lock:
            return any(map(self._slots.has_room, self._waiting))

    def _remove(self, owner: str, future: Future[Any]) -> None:
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
    except BaseException as error:  # noqa: BLE001  (raised to the caller)
        future.set_exception(error)
    else:
        future.set_result(result)
