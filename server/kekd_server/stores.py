"""The stores that the daemon was given, and which of them a request means."""

from collections.abc import Sequence

from kekd_server.errors import StoreNotConfiguredError
from kekd_server.storage.location import Location
from kekd_server.storage.store import Store


class Stores:
    """A fixed set. A request selects one and can't add one: that is what keeps a caller from
    making the daemon open a path or bucket of the caller's choosing.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        """The first one is the default."""
        self._stores = stores

    def select(self, asked: Location | None) -> Store:
        """Raises `StoreNotConfiguredError` unless exactly one store is meant."""
        if asked is None:
            return self._stores[0]
        found = [store for store in self._stores if store.location.admits(asked)]
        if len(found) > 1:
            raise StoreNotConfiguredError(
                f"config_location {asked!s:.200} matches {len(found)} of the daemon's stores:"
                " give its region and endpoint too."
            )
        if not found:
            raise StoreNotConfiguredError(
                f"config_location {asked!s:.200} matches none of the daemon's stores:"
                " leave it out for the default store, or have the daemon configured with it."
            )
        return found[0]

    def close(self) -> None:
        for store in self._stores:
            store.close()
