"""Caches KEKs in memory, and overwrites them when they expire."""

import random
import threading
import time
from collections import OrderedDict
from typing import Final

from kekd.kek.provider import scrub

_REFRESH: Final = (0.75, 0.95)
"""A KEK is refreshed after a random fraction of its TTL in this range, so that KEKs that were
loaded together aren't refreshed together."""


class CachedKey:
    """A KEK, and when it expires."""

    def __init__(self, kek: bytearray, ttl: float, max_stale: float) -> None:
        now = time.monotonic()
        self.kek = kek
        self.is_live = True
        self.refresh_pending = False
        """Whether a refresh has started, and nothing has confirmed or revoked the KEK since."""
        self.refresh_at = now + ttl * random.uniform(*_REFRESH)  # noqa: S311  (no secret)
        self.expires_at = now + ttl
        self.evict_at = now + ttl + max_stale

    def is_usable(self, now: float) -> bool:
        return now < self.expires_at or (self.refresh_pending and now < self.evict_at)

    def copy(self) -> bytes | None:
        """Returns the KEK, or None if it was overwritten. Needs no lock."""
        kek = bytes(self.kek)
        # Still live after the copy, so nothing was overwritten before it.
        return kek if self.is_live else None

    def scrub(self) -> None:
        self.is_live = False  # before the KEK is overwritten: see `copy`
        scrub(self.kek)


class KeyCache:
    """The KEKs in memory, by index name. Hold `lock` for every method except `get`."""

    def __init__(self, ttl: float, max_stale: float, max_entries: int) -> None:
        """`ttl` and `max_stale` are in seconds."""
        self._ttl = ttl
        self._max_stale = max_stale
        self._max_entries = max_entries
        # Not a dict, which scans past all deleted keys to find its first one.
        self._entries: OrderedDict[str, CachedKey] = OrderedDict()
        """In the order of their loads. The first entry is evicted first."""
        self._timer: threading.Timer | None = None
        self.lock = threading.Lock()

    def get(self, index_name: str) -> CachedKey | None:
        return self._entries.get(index_name)

    def put(self, index_name: str, kek: bytearray) -> None:
        self.drop(index_name)
        self._entries[index_name] = CachedKey(kek, self._ttl, self._max_stale)
        if len(self._entries) > self._max_entries:
            self.drop(next(iter(self._entries)))
        self._schedule_eviction()

    def drop(self, index_name: str) -> None:
        entry = self._entries.pop(index_name, None)
        if entry:
            entry.scrub()

    def drop_all(self) -> None:
        for index_name in list(self._entries):
            self.drop(index_name)

    def reset_after_fork(self) -> None:
        """Empties the cache. The parent's eviction timer doesn't run in the child."""
        self.lock = threading.Lock()
        self.drop_all()

    def _schedule_eviction(self) -> None:
        """Ensures that KEKs that nobody requests any more don't stay in memory."""
        if self._entries and not (self._timer and self._timer.is_alive()):
            first = next(iter(self._entries.values()))
            self._timer = threading.Timer(first.evict_at - time.monotonic(), self._evict)
            self._timer.daemon = True
            try:
                self._timer.start()
            except RuntimeError:  # too many threads: nothing would overwrite the KEKs later
                self.drop_all()

    def _evict(self) -> None:
        with self.lock:
            now = time.monotonic()
            expired = [name for name, entry in self._entries.items() if entry.evict_at <= now]
            for index_name in expired:
                self.drop(index_name)
            self._timer = None
            self._schedule_eviction()
