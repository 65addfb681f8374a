"""The stores that the daemon was given, and which of them a request means."""

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Final

from kekd_server.model.errors import StoreNotConfiguredError
from kekd_server.storage.location import Location
from kekd_server.storage.store import Store

selected: Final[ContextVar[str]] = ContextVar("selected", default="")
"""The name of the store that the call at hand is about, once it selected one."""


class Stores:
    """A fixed set. A request selects one and can't add one: that is what keeps a caller from
    making the daemon open a path or bucket of the caller's choosing.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        """The first one is the default."""
        self._stores = stores

    def __iter__(self) -> Iterator[Store]:
        """The default one first."""
        return iter(self._stores)

    def select(self, asked: Location | None) -> Store:
        """Raises `StoreNotConfiguredError` unless one of them is meant."""
        store = self._stores[0] if asked is None else self._found(asked)
        selected.set(store.name)
        return store

    def end_watches(self) -> None:
        for store in self._stores:
            store.end_watches()

    def close(self) -> None:
        for store in self._stores:
            store.close()

    def _found(self, asked: Location) -> Store:
        for store in self._stores:
            if store.location.matches(asked):
                return store
        raise StoreNotConfiguredError(
            f"config_location {asked!s:.200} matches none of the daemon's stores: leave it out for"
            " the default store, or have the daemon configured with it."
        )
