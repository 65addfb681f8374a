"""Manages the caches of a client: one for each location that is read, with its watcher."""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from kekd._cache.envelope_cache import EnvelopeCache
from kekd._models import Change, Event, GetResult, KMSBlob, StorageConfig
from kekd._transport.fork import reset_after_fork
from kekd._transport.timeouts import require_timeout
from kekd.errors import CorruptEnvelopeError, EnvelopeError, EnvelopeNotFoundError


class Watcher(Protocol):
    """Watches a location, and reports the changes to its cache."""

    def close(self) -> None:
        """Ends the watch without waiting for that."""

    def abandon(self) -> None:
        """Makes the watch end by itself soon.

        For a finalizer, which can run in any thread at any time, also inside gRPC: it doesn't wait
        and doesn't call gRPC.
        """


class InvalidationListener(Protocol):
    def invalidate(self, index_name: str) -> None:
        """Drops anything derived from an envelope that has changed."""


WatcherT = TypeVar("WatcherT", bound=Watcher)
OnChange = Callable[[str], None]
StartWatcher = Callable[[StorageConfig | None, EnvelopeCache, OnChange], WatcherT]
"""Takes a location, its cache, and a callback for the name of each changed envelope."""

_NOWHERE: Final = StorageConfig("")


class CacheManager(Generic[WatcherT]):
    """Holds the cache of each location. Thread-safe. Empty in a forked child."""

    _opened: dict[StorageConfig | None, tuple[EnvelopeCache, WatcherT]]
    _last: tuple[StorageConfig | None, EnvelopeCache]
    """The location that was read last, and its cache."""

    def __init__(self, max_staleness: float, start_watcher: StartWatcher[WatcherT]) -> None:
        """Raises ValueError unless `max_staleness` is a valid timeout."""
        self._max_staleness = require_timeout(max_staleness, "max_staleness")
        self._start_watcher = start_watcher
        self._listeners: dict[StorageConfig | None, weakref.WeakSet[InvalidationListener]] = {}
        self._reset()
        reset_after_fork(self._reset)

    def get(self, location: StorageConfig | None, index_name: str) -> KMSBlob | None:
        """Returns a cached envelope. Takes no lock, because every cache hit runs this."""
        last, cache = self._last
        if location is not last:
            # Most callers use one location. Looking up another computes its hash, which takes
            # longer than everything else here.
            try:
                opened = self._opened.get(location)
            except TypeError:  # not hashable: the call reports the wrong type
                return None
            if opened is None:
                return None
            cache = opened[0]
            self._last = location, cache
        return cache.get(index_name)

    @contextmanager
    def read_through(
        self, location: StorageConfig | None, index_name: str
    ) -> Iterator[Callable[[KMSBlob], KMSBlob]]:
        """Wraps a read that missed. Yields the function that caches its result, if still valid."""
        with self._cache_for(location).read_through(index_name) as fill:

            def observe_and_fill(blob: KMSBlob) -> KMSBlob:
                self.observe((index_name, blob))
                return fill(blob)

            try:
                yield observe_and_fill
            except EnvelopeError as error:
                self.observe((index_name, error))
                raise

    def observe(self, found: GetResult) -> GetResult:
        """Drops the entries that differ from a result, and returns the result.

        Checks every cache because two locations can name the same store.
        """
        index_name, envelope = found
        if isinstance(envelope, (KMSBlob, EnvelopeNotFoundError, CorruptEnvelopeError)):
            etag = envelope.etag if isinstance(envelope, KMSBlob) else ""
            for cache in self._caches():
                cache.observe(index_name, envelope.store, etag)
        return found

    def observe_event(self, event: Event) -> Event:
        """Drops the entries that an event of the caller's own watch affects. Returns the event."""
        if isinstance(event, Change):
            self.invalidate([event.index_name])
        else:
            for cache in self._caches():
                cache.invalidate_all()
        return event

    def invalidate(self, index_names: Iterable[str]) -> None:
        """Drops envelopes that the client has written, or may have.

        Applies to every cache because two locations can name the same store.
        """
        with self._lock:
            locations = list(self._listeners)
        caches = self._caches()
        for index_name in index_names:
            for cache in caches:
                cache.invalidate(index_name)
            for location in locations:
                self._notify(location, index_name)

    def add_listener(self, location: StorageConfig | None, listener: InvalidationListener) -> None:
        """Notifies a listener of each change, after the cache has dropped the envelope.

        That includes changes that this client makes, but not those that the watch has missed. Holds
        the listener by a weak reference.
        """
        with self._lock:
            self._listeners.setdefault(location, weakref.WeakSet()).add(listener)

    def close(self) -> list[WatcherT]:
        """Ends the watches and returns their watchers. The next read starts another watch."""
        with self._lock:
            opened = list(self._opened.values())
            self._clear()
        for cache, watcher in opened:
            watcher.close()
            cache.on_disconnect()
        return [watcher for _, watcher in opened]

    def abandon(self) -> None:
        """Makes the watches end by themselves. See `Watcher.abandon`."""
        for _, watcher in list(self._opened.values()):
            watcher.abandon()

    def _cache_for(self, location: StorageConfig | None) -> EnvelopeCache:
        """Returns the cache of a location. Starts its watch when first called."""
        with self._lock:
            opened = self._opened.get(location)
            if opened is None:
                cache = EnvelopeCache(self._max_staleness)
                try:
                    watcher = self._start_watcher(location, cache, partial(self._notify, location))
                except RuntimeError:  # too many threads: caches nothing, and the next read retries
                    return cache
                opened = self._opened[location] = cache, watcher
            self._last = location, opened[0]
            return opened[0]

    def _caches(self) -> list[EnvelopeCache]:
        with self._lock:
            return [cache for cache, _ in self._opened.values()]

    def _reset(self) -> None:
        """A forked child has none of the threads that fill its parent's caches."""
        self._lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self._opened = {}
        self._last = _NOWHERE, EnvelopeCache()

    def _notify(self, location: StorageConfig | None, index_name: str) -> None:
        with self._lock:
            listeners = list(self._listeners.get(location, ()))
        for listener in listeners:
            listener.invalidate(index_name)
