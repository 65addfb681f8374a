"""A cache that is bounded by the bytes that it holds."""

from collections.abc import Hashable
from sys import getsizeof
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_ENTRY_BYTES: Final = 400
"""About what an entry takes apart from its texts: a tuple, a value, and their places here."""


class BoundedCache(Generic[K, V]):
    """Keeps values by key. When their sizes exceed `max_bytes`, the oldest ones are dropped, but
    for the youngest of all.

    `get` is a dict's own, as calls that are served from memory look up a few of these each.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: dict[K, V] = {}
        self._sizes: dict[K, int] = {}
        self.size = 0
        self.get = self._values.get

    def put(self, key: K, value: V, *, size: int) -> None:
        """`size`: of the key and the value together."""
        self.drop(key)
        self._values[key] = value
        self._sizes[key] = size
        self.size += size
        while self.size > self._max_bytes and len(self._sizes) > 1:
            self.drop(next(iter(self._sizes)))

    def drop(self, key: K) -> None:
        self._values.pop(key, None)
        self.size -= self._sizes.pop(key, 0)


def entry_bytes(*texts: str | bytes | None) -> int:
    """The size of an entry that holds these."""
    return _ENTRY_BYTES + sum(map(getsizeof, texts))
