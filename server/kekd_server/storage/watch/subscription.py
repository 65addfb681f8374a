"""What one watcher has yet to be told."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kekd_server.model.errors import WatchFellBehindError
from kekd_server.model.index_name import NamePrefix
from kekd_server.storage.watch.event import Change, WatchEvent

MOST_PENDING: Final = 10_000


class Subscription:
    """Bounded: who takes it more slowly than it comes is cut off."""

    def __init__(
        self, prefix: NamePrefix, is_visible: Callable[[str], bool] = lambda _: True
    ) -> None:
        """`is_visible`: whether the watcher may know of a change to that index, now. What it may
        not takes none of the room for what it may.
        """
        self._prefix = prefix.value
        self._is_visible = is_visible
        self._pending: dict[str, Change] = {}
        self._resync = False
        self._over = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    async def next(self, silence: float) -> Change | WatchEvent | None:
        """`HEARTBEAT` after so many seconds of silence; None if the daemon is to end.

        Raises `WatchFellBehindError`, or what ended the source.
        """
        if not self._news.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(silence):
                    await self._news.wait()
        if self._error:
            raise self._error
        if self._over:
            return None
        if self._resync:
            self._resync = False
            event: Change | WatchEvent = WatchEvent.RESYNC
        elif self._pending:
            event = self._pending.pop(next(iter(self._pending)))
        else:
            return WatchEvent.HEARTBEAT
        if not self._pending:
            self._news.clear()
        return event

    @property
    def is_slow(self) -> bool:
        return len(self._pending) > MOST_PENDING // 2

    def tell(self, change: Change) -> None:
        """Instead of an older change to the same envelope, if that is still pending."""
        if self._over or not change.name.value.startswith(self._prefix):
            return
        if not self._is_visible(change.name.value):
            return
        self._pending.pop(change.name.key, None)
        self._pending[change.name.key] = change
        self._news.set()
        if len(self._pending) > MOST_PENDING:
            self.end(WatchFellBehindError())

    def resync(self) -> None:
        """Instead of all that is pending."""
        self._pending.clear()
        self._resync = True
        self._news.set()

    def end(self, error: Exception | None = None) -> None:
        self._pending.clear()
        self._over, self._error = True, self._error or error
        self._news.set()
