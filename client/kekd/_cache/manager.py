"""The caches of a client: one, with a watch that feeds it, for each location that is read."""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from kekd._cache.envelope_cache import Cache
from kekd._models import Change, Event, Found, KMSBlob, StorageConfig
from kekd._transport.fork import forget_after_fork
from kekd.errors import CorruptEnvelopeError, EnvelopeError, EnvelopeNotFoundError

_MAX_SECONDS: Final = 10**9


class Feed(Protocol):
    """Whoever tells a cache of what its watch tells."""

    def close(self) -> None:
        """Ends the watch, and what reads it; it doesn't wait for that."""

    def abandon(self) -> None:
        """Has it end by itself soon. For a finalizer, which any thread may run in the midst of
        anything, gRPC's own included: it must not wait, nor call gRPC.
        """


class Listener(Protocol):
    def invalidate(self, index_name: str) -> None:
        """Lets go of what was made of an envelope that was changed."""


FeedT = TypeVar("FeedT", bound=Feed)
Told = Callable[[str], None]
Start = Callable[[StorageConfig | None, Cache, Told], FeedT]
"""From a location, its cache, and what is to be called with each name that is changed."""

_NOWHERE: Final = StorageConfig("")


class Caches(Generic[FeedT]):
    """Threads may share them. A forked child finds them empty, and watches for itself."""

    _opened: dict[StorageConfig | None, tuple[Cache, FeedT]]
    _last: tuple[StorageConfig | None, Cache]
    """Where the last hit or miss was."""

    def __init__(self, max_staleness: float, start: Start[FeedT]) -> None:
        """Raises ValueError for a time that can't be."""
        if not 0 < max_staleness <= _MAX_SECONDS:  # not the other way round: NaN compares false
            raise ValueError(
                f"{max_staleness} is no max_staleness: give a number of seconds, more than 0 and at"
                f" most {_MAX_SECONDS}."
            )
        self._max_staleness = max_staleness
        self._start = start
        self._listeners: dict[StorageConfig | None, weakref.WeakSet[Listener]] = {}
        self.forget()
        forget_after_fork(self)

    def get(self, location: StorageConfig | None, index_name: str) -> KMSBlob | None:
        """From memory, if it is there and may be served. Takes no lock, as every hit comes here."""
        last, cache = self._last
        if location is not last:
            # Most callers have one location. To look up another takes its hash, which takes longer
            # than all the rest.
            try:
                opened = self._opened.get(location)
            except TypeError:  # no location, which the call tells better
                return None
            if opened is None:
                return None
            cache = opened[0]
            self._last = location, cache
        return cache.get(index_name)

    def at(self, location: StorageConfig | None) -> Cache:
        """The cache of a location, for a read that missed. The first call begins its watch."""
        with self._lock:
            opened = self._opened.get(location)
            if opened is None:
                cache = Cache(self._max_staleness)
                try:
                    feed = self._start(location, cache, partial(self._tell, location))
                except RuntimeError:  # too many threads: nothing is kept, and the next tries again
                    return cache
                opened = self._opened[location] = cache, feed
            self._last = location, opened[0]
            return opened[0]

    @contextmanager
    def reading(
        self, location: StorageConfig | None, index_name: str
    ) -> Iterator[Callable[[KMSBlob], KMSBlob]]:
        """As `Cache.reading`, for a read that missed."""
        with self.at(location).reading(index_name) as keep:

            def observe_and_keep(blob: KMSBlob) -> KMSBlob:
                self.observe((index_name, blob))
                return keep(blob)

            try:
                yield observe_and_keep
            except EnvelopeError as error:
                self.observe((index_name, error))
                raise

    def observe(self, found: Found) -> Found:
        """Drops entries that differ from this answer, in every cache, as two locations may mean the
        same store. Returns the answer.
        """
        index_name, envelope = found
        if isinstance(envelope, (KMSBlob, EnvelopeNotFoundError, CorruptEnvelopeError)):
            etag = envelope.etag if isinstance(envelope, KMSBlob) else ""
            for cache in self._caches():
                cache.observe(index_name, envelope.store, etag)
        return found

    def observe_event(self, event: Event) -> Event:
        """As `observe`, of an event of a watch that the caller reads. Returns the event."""
        if isinstance(event, Change):
            self.change([event.index_name])
        else:
            for cache in self._caches():
                cache.drop_all()
        return event

    def change(self, index_names: Iterable[str]) -> None:
        """The client wrote these envelopes, or may have: of whichever store, as two locations may
        mean the same one.
        """
        with self._lock:
            locations = list(self._listeners)
        caches = self._caches()
        for index_name in index_names:
            for cache in caches:
                cache.change(index_name)
            for location in locations:
                self._tell(location, index_name)

    def listen(self, location: StorageConfig | None, listener: Listener) -> None:
        """Tells an object, while it lives, of each change that the watch of a location tells or
        this client makes, once the cache knows of it. Not of changes that may have been missed.
        """
        with self._lock:
            self._listeners.setdefault(location, weakref.WeakSet()).add(listener)

    def close(self) -> list[FeedT]:
        """Ends the watches; which they were. The next to read begins another."""
        with self._lock:
            opened = list(self._opened.values())
            self._start_over()
        for cache, feed in opened:
            feed.close()
            cache.lose()
        return [feed for _, feed in opened]

    def abandon(self) -> None:
        for _, feed in list(self._opened.values()):
            feed.abandon()

    def forget(self) -> None:
        """A forked child has none of the threads that feed its parent's caches."""
        self._lock = threading.RLock()
        self._start_over()

    def _caches(self) -> list[Cache]:
        with self._lock:
            return [cache for cache, _ in self._opened.values()]

    def _start_over(self) -> None:
        self._opened = {}
        self._last = _NOWHERE, Cache()

    def _tell(self, location: StorageConfig | None, index_name: str) -> None:
        with self._lock:
            listeners = list(self._listeners.get(location, ()))
        for listener in listeners:
            listener.invalidate(index_name)
