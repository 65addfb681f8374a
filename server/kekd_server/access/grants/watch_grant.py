"""Permission to watch the indexes with a prefix."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kekd_server.access.grants.prefix_grant import PrefixGrant
from kekd_server.model.errors import WatchFellBehindError
from kekd_server.storage.watch.event import Change, WatchEvent
from kekd_server.storage.watch.subscription import Subscription


class WatchGrant(PrefixGrant):
    method = "watch"

    @asynccontextmanager
    async def watch(self) -> AsyncIterator["Watch"]:
        """Without anything to see, the watch sends heartbeats only, and doesn't poll the store."""
        is_idle = not self.can_see_anything()
        async with self._store.watch(
            self._record, self._prefix, self.is_visible, is_idle=is_idle
        ) as subscription:
            yield Watch(subscription, self, store_name=self._store.name, is_idle=is_idle)

    def is_visible(self, index: str) -> bool:
        return self._visibility_filter()(index)

    def reauthorize(self) -> None:
        """Raises `AccessDeniedError` if the policy no longer allows the watch, and
        `UnauthenticatedError` if the caller's identity has expired.
        """
        self._record.decision = self._policy.reauthorize(self._record.decision)
        self._record.decision.require_allowed()

    def can_see_anything(self) -> bool:
        return bool(self._visible_ranges().prefixes)


class Watch:
    """The changes that the caller can see, by the policy at that moment."""

    def __init__(
        self, subscription: Subscription, grant: WatchGrant, *, store_name: str, is_idle: bool
    ) -> None:
        """`is_idle`: the caller could see nothing when the watch began."""
        self.store_name = store_name
        self._subscription = subscription
        self._grant = grant
        self._is_idle = is_idle

    async def next(self, heartbeat: float) -> Change | WatchEvent | None:
        """Returns the next event after at most `heartbeat` seconds, or None when the daemon stops.
        Raises what `WatchGrant.reauthorize` raises, and `WatchFellBehindError`.
        """
        end = time.monotonic() + heartbeat
        while True:
            event = await self._subscription.next(max(0.0, end - time.monotonic()))
            self._grant.reauthorize()
            if self._is_idle and self._grant.can_see_anything():
                raise WatchFellBehindError("the daemon's policy changed")
            if not isinstance(event, Change) or self._grant.is_visible(event.name.value):
                return event
