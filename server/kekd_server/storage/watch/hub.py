"""The changes to the envelopes of a store, from every process that writes to every subscriber."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar

from kekd_server.model.errors import KekdError, StoreUnavailableError
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.watch.event import Change
from kekd_server.storage.watch.subscription import Subscription
from kekd_server.storage.watch.turns import Turns

T = TypeVar("T")
Changes: TypeAlias = Sequence[Change] | None
"""None where changes may have been missed."""

_MAX_SLOWDOWN: Final = 1.0
"""Seconds that slow readers may delay the next poll."""
_SLOWDOWN_STEPS: Final = 100

_log = logging.getLogger(__name__)


class RunInThread(Protocol):
    """Runs a call that may block in a thread."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


class ChangeWatcher(Protocol):
    """Notices the changes that any process makes to a store."""

    timeout: float
    """Seconds without a poll after which the watcher counts as stuck."""

    def note_write(self, name: IndexName) -> None:
        """Called after each write of this daemon, on the event loop."""

    def poll(self, run_in_thread: RunInThread) -> AsyncGenerator[Changes, None]:
        """Yields the changes that each poll found, including this daemon's own.

        The first yield is empty: from then on, every change will be noticed. Raises a `KekdError`
        instead if the store can't be watched. Afterwards it handles failures itself, and continues
        until it is closed.
        """


class ChangeHub:
    """Sends the changes of one store to all its subscribers. A subscriber gets every change, or a
    `RESYNC` in place of those that it missed.

    The change watcher runs while there are subscriptions. It has a thread of its own, as all
    threads of the store may wait for a lock. When it is stuck, every watch ends: heartbeats or this
    daemon's own writes would suggest that nothing else has changed.

    A subscriber gets an own write when it is published, and again when the change watcher notices
    it. The second one can't be dropped: the kernel may have merged it with the write of another
    process.
    """

    def __init__(self, watcher: ChangeWatcher | None, name: str) -> None:
        """Without a watcher, the only changes are those that are published. `name` is used in logs
        and thread names.
        """
        self._watcher = watcher
        self._name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name} changes")
        self._turns = Turns()
        self._subscriptions: set[Subscription] = set()
        self._idle_subscriptions: set[Subscription] = set()
        self._started: asyncio.Future[None] | None = None
        self._relay: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def subscribe(
        self,
        prefix: NamePrefix,
        is_visible: Callable[[str], bool] = lambda _: True,
        *,
        noticed_only: bool = False,
    ) -> AsyncIterator[Subscription]:
        """Subscribes to every change that is made after entry. Raises a `KekdError` if the store
        can't be watched. `noticed_only`: without the changes that this daemon publishes.
        """
        subscription = Subscription(
            prefix,
            is_visible,
            turns=None if noticed_only else self._turns,
            noticed_only=noticed_only,
        )
        self._subscriptions.add(subscription)
        try:
            if self._watcher:
                await asyncio.shield(self._started or self._start(self._watcher))
            yield subscription
        finally:
            subscription.end_turn()
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                self._stop()

    @contextmanager
    def subscribe_idle(self) -> Iterator[Subscription]:
        """Subscribes to heartbeats and the shutdown only. Doesn't run the change watcher."""
        subscription = Subscription(NamePrefix(""), turns=self._turns)
        self._idle_subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            subscription.end_turn()
            self._idle_subscriptions.discard(subscription)

    @property
    def has_subscribers(self) -> bool:
        """Whether there are any for the changes that are published."""
        return not all(subscription.noticed_only for subscription in self._subscriptions.copy())

    def publish(self, change: Change) -> None:
        """Sends a change that this daemon made to every subscription."""
        if self._watcher:
            self._watcher.note_write(change.name)
        for subscription in self._subscriptions:
            if not subscription.noticed_only:
                subscription.notify(change)

    def _send(self, change: Change) -> None:
        for subscription in self._subscriptions:
            subscription.notify(change)

    def end(self, error: Exception | None = None) -> None:
        """Ends every subscription; with an error, all but the idle ones."""
        for subscription in self._subscriptions:
            subscription.end(error)
        if error is None:
            for subscription in self._idle_subscriptions:
                subscription.end()

    def close(self) -> None:
        """Doesn't wait for a poll that is stuck."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self, watcher: ChangeWatcher) -> asyncio.Future[None]:
        self._started = asyncio.get_running_loop().create_future()
        self._relay = asyncio.create_task(self._relay_changes(watcher, self._started))
        return self._started

    def _stop(self) -> None:
        if self._relay:
            self._relay.cancel()
        self._relay = self._started = None

    async def _relay_changes(self, watcher: ChangeWatcher, started: asyncio.Future[None]) -> None:
        run_in_thread = partial(asyncio.get_running_loop().run_in_executor, self._thread)
        try:
            async with aclosing(watcher.poll(run_in_thread)) as polls:
                await anext(polls)
                started.set_result(None)
                while True:
                    self._relay_poll(await self._next_poll(polls, watcher.timeout))
                    await self._wait_for_slow_readers()
        except Exception as error:  # noqa: BLE001  (any error means that changes go unnoticed)
            if not isinstance(error, KekdError):
                _log.exception("%s: watching for changes failed", self._name)
            self._relay = self._started = None
            if started.done():
                self.end(error)
            else:
                started.set_exception(error)
                started.exception()  # the subscriber that waited for it may be gone

    async def _next_poll(self, polls: AsyncGenerator[Changes, None], seconds: float) -> Changes:
        """Raises `StoreUnavailableError` after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await anext(polls)
        except TimeoutError:
            _log.warning("%s: no poll for changes in %g s; its watches end", self._name, seconds)
            raise StoreUnavailableError(
                "the watch ended: the store could not be polled for changes; restart the watch and"
                " discard cached data"
            ) from None

    def _relay_poll(self, changes: Changes) -> None:
        if changes is None:
            for subscription in self._subscriptions:
                subscription.resync()
            return
        for change in changes:
            self._send(change)

    async def _wait_for_slow_readers(self) -> None:
        """A poll can find many changes at once. Gives the subscribers time to read them, within
        a limit that a subscriber that doesn't read can't extend.
        """
        for _ in range(_SLOWDOWN_STEPS):
            if not any(subscription.is_slow for subscription in self._subscriptions):
                break
            await asyncio.sleep(_MAX_SLOWDOWN / _SLOWDOWN_STEPS)
