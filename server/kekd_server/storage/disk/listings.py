"""The keys of running listings, cached from page to page."""

import heapq
import os
import threading
from collections.abc import Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Final, NamedTuple

from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk.folder_keys import FolderKeys
from kekd_server.storage.driver import NameRange
from kekd_server.storage.sorted_keys import names_in_order

_KEY_OVERHEAD_BYTES: Final = 60
"""What a cached key takes besides its text."""
_MAX_LISTING_BYTES: Final = 192 * 2**20
"""Enough for two million envelopes in all."""


class _Listing(NamedTuple):
    keys: Sequence[str]
    size: int


class Listings:
    """Finds the keys of a range once per listing, caches them, and takes pages from them.

    That reads the folder if it has changed since the last time, which takes some 0.5 s for a
    million envelopes; a range of single names needs no such read. The keys are cached until the
    last page, or until other listings take their place. Then, and at another daemon, they are read
    again.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        """The listings have the keys of all folders."""
        self._folders = folders
        self._folder_keys = [FolderKeys(folder) for folder in folders]
        self._cached = BoundedCache[tuple[str, tuple[str, ...]], _Listing](
            max_bytes=_MAX_LISTING_BYTES
        )
        self._lock = threading.Lock()

    def page(
        self, listing: str, names: NameRange, after: IndexName | None, limit: int
    ) -> list[IndexName]:
        """Raises OSError."""
        keys = self._keys(listing, names)
        page = list(islice(names_in_order(keys, names, after), limit))
        if len(page) < limit:
            with self._lock:
                self._cached.drop((listing, names.prefixes))
        return page

    def close(self) -> None:
        self._cached = BoundedCache(max_bytes=0)

    def _keys(self, listing: str, names: NameRange) -> Sequence[str]:
        cached = self._cached.get((listing, names.prefixes))
        if cached is None:
            keys = self._read_keys(names)
            texts = (listing, *names.prefixes, *keys)
            size = entry_bytes() + sum(map(len, texts)) + _KEY_OVERHEAD_BYTES * len(texts)
            cached = _Listing(keys, size)
        with self._lock:
            self._cached.put((listing, names.prefixes), cached, size=cached.size)  # as the newest
        return cached.keys

    def _read_keys(self, names: NameRange) -> Sequence[str]:
        if not names.is_exact:
            return _merge([keys.starting_with(names.prefixes) for keys in self._folder_keys])
        for folder in self._folders:
            os.stat(folder)  # a missing folder is an error, and not an empty listing
        return [
            key
            for key in names.prefixes
            if any(os.path.lexists(f"{folder}/{key}") for folder in self._folders)
        ]


def _merge(keys: Sequence[Sequence[str]]) -> Sequence[str]:
    """Merges sorted keys without those that are in several."""
    if len(keys) == 1:
        return keys[0]
    return [key for key, _ in groupby(heapq.merge(*keys))]
