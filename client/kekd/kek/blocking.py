"""Requires a blocking client."""

from inspect import iscoroutinefunction
from typing import Protocol

from kekd._models import KMSBlob, StorageConfig


class BlockingClient(Protocol):
    """The part of `kekd.Client` that a keyring uses. `kekd.AsyncClient` doesn't match."""

    def get_index_kms(
        self, config_location: StorageConfig | None, index_name: str, /
    ) -> KMSBlob: ...


def require_blocking(client: object) -> None:
    """Raises TypeError for an `AsyncClient`."""
    if iscoroutinefunction(getattr(client, "get_index_kms", None)):
        raise TypeError(
            f"invalid client: {type(client).__name__} doesn't block; pass a kekd.Client, also to an"
            " AsyncKeyring, which calls it in threads"
        )
