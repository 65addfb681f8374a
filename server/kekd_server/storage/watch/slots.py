"""Slots for the subscribers of a store, so that their events don't delay other calls."""

import asyncio
import time
from collections import deque
from collections.abc import Hashable
from typing import Final

SLOTS: Final = 16
"""Enough to keep the event loop busy. grpcio handles one completion in an iteration of the loop, so
each event whose write has completed delays every step of every other call.
"""
_MAX_SECONDS: Final = 0.02


class Slots:
    """Limits how many subscribers handle an event at once, in the order in which they ask.

    A subscriber that takes longer than `_MAX_SECONDS` loses its slot: its caller doesn't read, and
    must not delay other watches. Use it on the event loop only.
    """

    def __init__(self) -> None:
        self._taken: dict[Hashable, float] = {}
        """When each was taken, by the subscriber, from the oldest to the newest."""
        self._waiting: deque[tuple[Hashable, asyncio.Future[None]]] = deque()
        self._next_check: asyncio.TimerHandle | None = None

    async def take(self, subscriber: Hashable) -> None:
        """Waits for a free slot. Whatever happens, call `give_back` afterwards."""
        if len(self._taken) < SLOTS:
            self._taken[subscriber] = time.monotonic()
            return
        loop = asyncio.get_running_loop()
        is_free = loop.create_future()
        self._waiting.append((subscriber, is_free))
        if not self._next_check:
            self._next_check = loop.call_later(_MAX_SECONDS, self._take_back)
        await is_free

    def give_back(self, subscriber: Hashable) -> None:
        """Frees a slot, if the subscriber has one."""
        if self._taken.pop(subscriber, None) is None:
            return
        while self._waiting:
            subscriber, is_free = self._waiting.popleft()
            if not is_free.done():  # otherwise, the subscriber was cancelled
                self._taken[subscriber] = time.monotonic()
                is_free.set_result(None)
                return

    def _take_back(self) -> None:
        too_old = time.monotonic() - _MAX_SECONDS
        for subscriber in [holder for holder, since in self._taken.items() if since <= too_old]:
            self.give_back(subscriber)
        self._next_check = (
            asyncio.get_running_loop().call_later(_MAX_SECONDS, self._take_back)
            if self._waiting
            else None
        )
