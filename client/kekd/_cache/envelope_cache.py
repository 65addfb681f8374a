"""The envelopes of one location that are kept in memory while changes to them are told."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kekd._models import KMSBlob

DEFAULT_MAX_STALENESS: Final = 10.0
MAX_ENTRIES: Final = 65_536

_new: Final = object.__new__


class _Token:
    """Shared by the reads of one envelope that are under way."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        """By store, the etag that a caller was answered with meanwhile."""


class Cache:
    """What was read since a watch began, less what was changed since it was read.

    Whoever reads the watch tells it of the beginning, of each change, of each sign of life and of
    the loss. Before the beginning and after the loss nothing is kept, so that nothing can be old;
    and nothing is served later than `max_staleness` seconds after the last sign of life.

    A read that is under way when its envelope is changed may have met the old one. Therefore a read
    takes a token, a change takes the tokens of its envelope away, and only what was read with a
    token that is still there is kept.

    Threads may share it.
    """

    def __init__(
        self,
        max_staleness: float = DEFAULT_MAX_STALENESS,
        *,
        max_entries: int = MAX_ENTRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_staleness = max_staleness
        self._max_entries = max_entries
        self._clock = clock
        self._watched = False
        self._fresh_until = float("-inf")
        self._entries: dict[str, KMSBlob] = {}
        """The one that was read longest ago is the first."""
        self._tokens: dict[str, _Token] = {}
        """Of the reads under way, which all that read the same envelope share."""
        # One that a finalizer may take again: the collector may run in the midst of anything.
        self._lock = threading.RLock()

    def get(self, index_name: str) -> KMSBlob | None:
        """A copy that only the caller has. Takes no lock, as every hit comes here."""
        kept = self._entries.get(index_name)
        if kept is None or self._clock() >= self._fresh_until:
            return None
        return _copy(kept)

    @contextmanager
    def reading(self, index_name: str) -> Iterator[Callable[[KMSBlob], KMSBlob]]:
        """For the time of a read. It gets the function that keeps what was read, if that may be."""
        token: _Token | None = None
        with self._lock:
            if self._watched:
                token = self._tokens.setdefault(index_name, _Token())

        def keep(blob: KMSBlob) -> KMSBlob:
            with self._lock:
                if token and self._tokens.get(index_name) is token:
                    self._insert(index_name, _copy(blob))
            return blob

        try:
            yield keep
        finally:
            with self._lock:
                if token and self._tokens.get(index_name) is token:
                    del self._tokens[index_name]

    def observe(self, index_name: str, store: str, etag: str) -> None:
        """Drops the entry if it differs from an answer of any call that a caller is about to get.
        An empty etag means that there is no envelope.
        """
        with self._lock:
            kept, token = self._entries.get(index_name), self._tokens.get(index_name)
            differs = kept is not None and kept.store == store and kept.etag != etag
            if differs or (token and token.seen.setdefault(store, etag) != etag):
                self.change(index_name)

    def drop_all(self) -> None:
        """Any envelope may have been changed. The watch goes on."""
        with self._lock:
            self._entries = {}
            self._tokens = {}

    def change(self, index_name: str) -> None:
        """An envelope was changed, or may have been."""
        with self._lock:
            self._entries.pop(index_name, None)
            self._tokens.pop(index_name, None)

    def begin(self) -> None:
        """From here on each change is told; of what was before, nothing is known."""
        self._start_over(watched=True)

    def lose(self) -> None:
        """Changes aren't told any more."""
        self._start_over(watched=False)

    def hear(self) -> None:
        """A sign of life: every change of which there was word before it has been told."""
        self._fresh_until = self._clock() + self._max_staleness

    def _start_over(self, *, watched: bool) -> None:
        with self._lock:
            self._watched = watched
            self.drop_all()

    def _insert(self, index_name: str, blob: KMSBlob) -> None:
        self._entries.pop(index_name, None)
        self._entries[index_name] = blob
        if len(self._entries) > self._max_entries:
            del self._entries[next(iter(self._entries))]


def _copy(blob: KMSBlob) -> KMSBlob:
    """Ten times as fast as copy.copy, and this is most of what a hit costs."""
    twin = _new(KMSBlob)
    twin.kms_name = blob.kms_name
    twin.provider = blob.provider
    twin.key_id = blob.key_id
    twin.region = blob.region
    twin.wrapped_kek = blob.wrapped_kek
    twin.version = blob.version
    twin.created_at = blob.created_at
    twin.key_arn = blob.key_arn
    twin.binding = blob.binding
    twin.etag = blob.etag
    twin.store = blob.store
    return twin
