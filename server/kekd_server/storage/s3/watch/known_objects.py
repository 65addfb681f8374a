"""Remembers the objects of a keystore, and finds what changed."""

from collections.abc import Iterable
from typing import Final

from kekd_server.model.index_name import IndexName
from kekd_server.storage.s3.listing import ListedObject
from kekd_server.storage.watch.event import Change, ChangeKind

_OWN_WRITE: Final = 0


class KnownObjects:
    """Compares each listing with what was known before it.

    Envelopes can be refreshed during a listing. The listing then says nothing about them, because
    their page may be older. The next listing does.
    """

    def __init__(self) -> None:
        self._stamps: dict[str, int] = {}
        """By key, a hash that differs after every write. A million take some 200 MB."""
        self._unlisted: dict[str, int] = {}
        """Those that the listing has not found yet."""
        self._refreshed: set[str] = set()

    def begin_listing(self) -> None:
        self._unlisted, self._stamps = self._stamps, {}
        self._refreshed.clear()

    def add_page(self, page: Iterable[ListedObject]) -> list[Change]:
        changes = (self._update(version) for version in page if version.key not in self._refreshed)
        return list(filter(None, changes))

    def end_listing(self) -> list[Change]:
        """Returns the deletes of what the listing did not find."""
        unlisted, self._unlisted = self._unlisted, {}
        names = filter(None, map(IndexName.from_key, unlisted))
        return [Change(ChangeKind.DELETED, name) for name in names]

    def refresh(self, name: IndexName, version: ListedObject | None) -> Change | None:
        """Call it with what a get found, which is newer than any page of the listing so far."""
        self._refreshed.add(name.key)
        if version:
            return self._update(version)
        return Change(ChangeKind.DELETED, name) if self._forget(name.key) is not None else None

    def add_own_write(self, key: str) -> None:
        """Makes the next listing look for the envelope. The current one may have passed it."""
        stamp = self._forget(key)
        self._stamps[key] = _OWN_WRITE if stamp is None else stamp

    def _update(self, version: ListedObject) -> Change | None:
        previous = self._forget(version.key)
        stamp = self._stamps[version.key] = hash((version.etag, version.modified))
        if stamp == previous or not (name := IndexName.from_key(version.key)):
            return None
        kind = ChangeKind.CREATED if previous is None else ChangeKind.PUSHED
        return Change(kind, name, version.etag)

    def _forget(self, key: str) -> int | None:
        """Returns the stamp that was known."""
        return self._unlisted.pop(key, self._stamps.pop(key, None))
