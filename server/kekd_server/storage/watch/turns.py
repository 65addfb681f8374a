"""Turns of the subscribers of a store, so that their events don't delay other calls."""

import asyncio
import time
from collections import deque
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

MAX_TURNS: Final = 16
"""Turns at once. Enough to keep the event loop busy. grpcio handles one completion in an iteration
of the loop, so each event whose write has completed delays every step of every other call.
"""
_MAX_SECONDS: Final = 0.02
_SLOW_SECONDS: Final = 60.0


class _Waiting(NamedTuple):
    subscriber: object
    turn: asyncio.Future[None]


class Turns:
    """Limits how many subscribers handle an event at once. Each gets a turn in the order in which
    they ask. Use it on the event loop only.

    A turn ends after `_MAX_SECONDS`: the subscriber's caller reads slowly, or the event loop is
    overloaded, and then more than `MAX_TURNS` events are in work. For `_SLOW_SECONDS`, this
    subscriber gets a turn only when no other one waits.
    """

    def __init__(self) -> None:
        self._began: dict[object, float] = {}
        """When each turn began, by its subscriber."""
        self._waiting: deque[_Waiting] = deque()
        self._slow_waiting: deque[_Waiting] = deque()
        self._slow_until: WeakKeyDictionary[object, float] = WeakKeyDictionary()
        self._next_check: asyncio.TimerHandle | None = None

    async def begin(self, subscriber: object) -> None:
        """Waits for a turn. Call `end` afterwards, also if this is cancelled."""
        now = time.monotonic()
        if len(self._began) < MAX_TURNS:
            self._began[subscriber] = now
            return
        loop = asyncio.get_running_loop()
        waiting = _Waiting(subscriber, loop.create_future())
        is_slow = now < self._slow_until.get(subscriber, now)
        (self._slow_waiting if is_slow else self._waiting).append(waiting)
        if not self._next_check:
            self._next_check = loop.call_later(_MAX_SECONDS, self._end_overdue)
        await waiting.turn

    def end(self, subscriber: object) -> None:
        """Ends the subscriber's turn, if it has one."""
        if self._began.pop(subscriber, None) is None:
            return
        while queue := self._waiting or self._slow_waiting:
            waiting = queue.popleft()
            if not waiting.turn.done():  # otherwise, the subscriber was cancelled
                self._began[waiting.subscriber] = time.monotonic()
                waiting.turn.set_result(None)
                return

    def _end_overdue(self) -> None:
        now = time.monotonic()
        overdue = [key for key, began in self._began.items() if began <= now - _MAX_SECONDS]
        for subscriber in overdue:
            self._slow_until[subscriber] = now + _SLOW_SECONDS
            self.end(subscriber)
        self._next_check = (
            asyncio.get_running_loop().call_later(_MAX_SECONDS, self._end_overdue)
            if self._waiting or self._slow_waiting
            else None
        )
