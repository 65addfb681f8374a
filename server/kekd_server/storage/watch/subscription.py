"""The events that one subscriber has not received yet."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from kekd_server.model.errors import WatchFellBehindError
from kekd_server.model.index_name import NamePrefix
from kekd_server.storage.watch.event import Change, WatchEvent
from kekd_server.storage.watch.turns import Turns

MAX_PENDING: Final = 10_000


class Subscription:
    """Holds at most `MAX_PENDING` changes. A subscriber that falls further behind is dropped."""

    def __init__(
        self,
        prefix: NamePrefix,
        is_visible: Callable[[str], bool] = lambda _: True,
        *,
        turns: Turns | None,
        noticed_only: bool = False,
    ) -> None:
        """`is_visible`: whether the subscriber may know about a change to that index now. Invisible
        changes take no room. `turns`: shared by all subscribers of the store that send events.
        `noticed_only`: only the changes that the change watcher notices.
        """
        self._turns = turns
        self.noticed_only = noticed_only
        self._prefix = prefix.value
        self._is_visible = is_visible
        # Not a dict, which scans past all deleted keys to find its first one.
        self._pending: OrderedDict[str, Change] = OrderedDict()
        self._resync = False
        self._has_ended = False
        self._error: Exception | None = None
        self._has_news = asyncio.Event()

    async def next(self, heartbeat: float) -> Change | WatchEvent | None:
        """Returns the next event, `HEARTBEAT` after `heartbeat` seconds without one, or None if the
        daemon shuts down. An event other than `HEARTBEAT`
        begins a turn, which ends when this is called again, or with `end_turn`.

        Raises `WatchFellBehindError`, or the error that ended the change watcher.
        """
        self.end_turn()
        if not self._has_news.is_set():
            try:
                async with asyncio.timeout(heartbeat):
                    await self._has_news.wait()
            except TimeoutError:
                return WatchEvent.HEARTBEAT
        if self._turns:
            await self._turns.begin(self)
        if self._error:
            raise self._error
        if self._has_ended:
            return None
        if self._resync:
            self._resync = False
            event: Change | WatchEvent = WatchEvent.RESYNC
        elif self._pending:
            _, event = self._pending.popitem(last=False)
        else:
            return WatchEvent.HEARTBEAT
        if not self._pending:
            self._has_news.clear()
        return event

    def end_turn(self) -> None:
        """Ends the turn that `next` began."""
        if self._turns:
            self._turns.end(self)

    def take_changes(self) -> list[Change]:
        """Returns the pending changes without waiting. Call it after `next` returned a change."""
        changes = list(self._pending.values())
        self._pending.clear()
        if not self._has_ended:
            self._has_news.clear()
        return changes

    @property
    def is_slow(self) -> bool:
        return len(self._pending) > MAX_PENDING // 2

    def notify(self, change: Change) -> None:
        """Adds a change. It replaces an older one of the same envelope that is still pending."""
        if self._has_ended or not change.name.value.startswith(self._prefix):
            return
        if not self._is_visible(change.name.value):
            return
        self._pending.pop(change.name.key, None)
        self._pending[change.name.key] = change
        self._has_news.set()
        if len(self._pending) > MAX_PENDING:
            self.end(WatchFellBehindError())

    def resync(self) -> None:
        """Replaces everything that is pending with a resync."""
        self._pending.clear()
        self._resync = True
        self._has_news.set()

    def end(self, error: Exception | None = None) -> None:
        self._pending.clear()
        self._has_ended, self._error = True, self._error or error
        self._has_news.set()
