"""The configured stores. A request selects one of them."""

from collections.abc import Iterator, Sequence

from kekd_server.model.errors import StoreNotConfiguredError
from kekd_server.storage.location import Location
from kekd_server.storage.store import Store


class Stores:
    """A fixed set. A request can't add a store, so a caller can't make the daemon open a path or a
    bucket of the caller's choice.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        """The first store is the default."""
        self._stores = stores

    def __iter__(self) -> Iterator[Store]:
        """Yields the default store first."""
        return iter(self._stores)

    def select(self, requested: Location | None) -> Store:
        """Raises `StoreNotConfiguredError` if no store matches."""
        return self._stores[0] if requested is None else self._find(requested)

    def end_watches(self) -> None:
        for store in self._stores:
            store.end_watches()

    def close(self) -> None:
        for store in self._stores:
            store.close()

    def _find(self, requested: Location) -> Store:
        for store in self._stores:
            if store.location.matches(requested):
                return store
        raise StoreNotConfiguredError(
            f"config_location {requested!s:.200} matches none of the daemon's stores; omit it to"
            " use the default store, or configure the daemon with this store"
        )
