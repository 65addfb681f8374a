"""Changes to the envelopes of a store, from all who make them to all who watch."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, Protocol, TypeVar

from kekd_server.model.errors import KekdError, StoreUnavailableError
from kekd_server.model.index_name import NamePrefix
from kekd_server.storage.watch.event import Change
from kekd_server.storage.watch.subscription import Subscription

T = TypeVar("T")
Batch = Sequence[Change] | None
"""None where changes may have been missed."""

_PACE_SECONDS: Final = 1.0
_PACE_STEPS: Final = 100

_log = logging.getLogger(__name__)


class InThread(Protocol):
    """Has a call that may block made in a thread."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


class ChangeWatcher(Protocol):
    """Where a store's changes are noticed, whoever makes them."""

    patience: float
    """After how many seconds without a batch it counts as stuck."""

    def batches(self, in_thread: InThread) -> AsyncGenerator[Batch, None]:
        """Changes as they are noticed, this daemon's own among them; an empty batch for each look
        that found none.

        The first, which is empty, comes when all that happens from then on will be noticed. Raises
        a `KekdError` in its place; afterwards it goes on by itself until it is closed.
        """


class ChangeHub:
    """Tells the changes to one store to all who watch it, each in full or with a `RESYNC` in the
    place of what is missing.

    Its source runs while there are watchers, and in a thread of its own: the store's may all wait
    for a lock. Once it is stuck, every watch ends: one that went on, be it with heartbeats or with
    this daemon's own writes, would vouch for changes that nobody notices.

    An own write is told when it is published, and again when the source notices it. That notice
    can't be passed over: the kernel may have made one of it and of another's write.
    """

    def __init__(self, source: ChangeWatcher | None, name: str) -> None:
        """Without a source, there are no changes but those that are published. `name` is for logs
        and threads.
        """
        self._source = source
        self._name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name} changes")
        self._subscriptions: set[Subscription] = set()
        self._idle: set[Subscription] = set()
        self._listening: asyncio.Future[None] | None = None
        self._relay: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def subscribed(
        self, prefix: NamePrefix, is_visible: Callable[[str], bool] = lambda _: True
    ) -> AsyncIterator[Subscription]:
        """Every change that is made after entering it is told. Raises a `KekdError` if the source
        can't be listened to.
        """
        subscription = Subscription(prefix, is_visible)
        self._subscriptions.add(subscription)
        try:
            if self._source:
                await asyncio.shield(self._listening or self._listen(self._source))
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                self._stop_listening()

    @contextmanager
    def unsubscribed(self) -> Iterator[Subscription]:
        """Gets nothing but heartbeats and the daemon's end. It costs the source nothing."""
        subscription = Subscription(NamePrefix(""))
        self._idle.add(subscription)
        try:
            yield subscription
        finally:
            self._idle.discard(subscription)

    @property
    def watched(self) -> bool:
        return bool(self._subscriptions)

    def publish(self, change: Change) -> None:
        """Tells of this daemon's own write."""
        for subscription in self._subscriptions:
            subscription.tell(change)

    def end(self, error: Exception | None = None) -> None:
        """Ends what every watcher gets."""
        for subscription in self._subscriptions:
            subscription.end(error)
        if error is None:
            for subscription in self._idle:
                subscription.end()

    def close(self) -> None:
        """Doesn't wait for a look that is stuck."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _listen(self, source: ChangeWatcher) -> asyncio.Future[None]:
        self._listening = asyncio.get_running_loop().create_future()
        self._relay = asyncio.create_task(self._relayed(source, self._listening))
        return self._listening

    def _stop_listening(self) -> None:
        if self._relay:
            self._relay.cancel()
        self._relay = self._listening = None

    async def _relayed(self, source: ChangeWatcher, listening: asyncio.Future[None]) -> None:
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._thread)
        try:
            async with aclosing(source.batches(in_thread)) as batches:
                await anext(batches)
                listening.set_result(None)
                while True:
                    self._notice(await self._next(batches, source.patience))
                    await self._pace()
        except Exception as error:  # noqa: BLE001  (whatever it was, nothing is noticed from here on)
            if not isinstance(error, KekdError):
                _log.exception("a store's changes aren't noticed any more")
            self._relay = self._listening = None
            if listening.done():
                self.end(error)
            else:
                listening.set_exception(error)
                listening.exception()  # the watcher that waited for it may be gone

    async def _next(self, batches: AsyncGenerator[Batch, None], patience: float) -> Batch:
        """Raises `StoreUnavailableError` if it is too long in coming."""
        try:
            async with asyncio.timeout(patience):
                return await anext(batches)
        except TimeoutError:
            _log.warning("%s: no look for changes in %g s; its watches end", self._name, patience)
            raise StoreUnavailableError(
                "The store's changes aren't noticed any more. Watch anew, and take what was read"
                " before for old."
            ) from None

    def _notice(self, batch: Batch) -> None:
        if batch is None:
            for subscription in self._subscriptions:
                subscription.resync()
            return
        for change in batch:
            self.publish(change)

    async def _pace(self) -> None:
        """A store can notice many changes at once. Watchers that read get the time to do so, which
        one that doesn't can't draw out.
        """
        for _ in range(_PACE_STEPS):
            if not any(subscription.is_slow for subscription in self._subscriptions):
                break
            await asyncio.sleep(_PACE_SECONDS / _PACE_STEPS)
