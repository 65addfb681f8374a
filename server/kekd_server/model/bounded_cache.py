"""A cache with a limit on the bytes that it holds."""

from collections.abc import Hashable
from itertools import islice
from sys import getsizeof
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_ENTRY_BYTES: Final = 400
"""About what an entry takes besides its texts: a tuple, a value, and two dict slots."""
_EVICTION_DIVISOR: Final = 64
"""A full cache evicts 1/64 of its room at a time."""


class BoundedCache(Generic[K, V]):
    """Keeps values by key. When their sizes exceed `max_bytes`, it evicts the oldest ones, but
    never the newest.

    `get` is the dict's own method, as each call that is served from memory uses a few caches.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: dict[K, V] = {}
        self._sizes: dict[K, int] = {}
        self.size = 0
        self.get = self._values.get

    def put(self, key: K, value: V, *, size: int) -> None:
        """`size`: the bytes of the key and the value together."""
        self.drop(key)
        self._values[key] = value
        self._sizes[key] = size
        self.size += size
        if self.size > self._max_bytes:
            self._evict()

    def has_room(self, size: int) -> bool:
        """Returns whether `put` would drop nothing."""
        return self.size + size <= self._max_bytes

    def drop(self, key: K) -> None:
        self._values.pop(key, None)
        self.size -= self._sizes.pop(key, 0)

    def _evict(self) -> None:
        """Evicts the oldest values, more than it must: to find its first key, a dict scans the
        slots of all keys that were deleted before it.
        """
        to_free = self.size - self._max_bytes + self._max_bytes // _EVICTION_DIVISOR
        evicted = []
        for key, size in islice(self._sizes.items(), len(self._sizes) - 1):
            if to_free <= 0:
                break
            evicted.append(key)
            to_free -= size
        for key in evicted:
            self.drop(key)


def entry_bytes(*texts: str | bytes | None) -> int:
    """Returns the size of an entry that holds these texts."""
    return _ENTRY_BYTES + sum(map(getsizeof, texts))
