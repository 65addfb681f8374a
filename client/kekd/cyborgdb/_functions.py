"""The functions that replace cyborgdb_core's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kekd._client import Client
from kekd._models import EnvelopeLike, KMSBlob, StorageConfig


@dataclass(frozen=True, slots=True)
class Installation:
    """The daemon of the functions. Calls end on the one that they began with."""

    client: Client
    store: StorageConfig | None

    def location(self, config_location: object) -> StorageConfig | None:
        if isinstance(config_location, StorageConfig):
            return config_location
        import cyborgdb_core  # noqa: PLC0415  (imported by now)

        if not isinstance(config_location, cyborgdb_core.StorageConfig):
            raise TypeError(
                f"config_location is a {type(config_location).__name__}; pass a StorageConfig"
            )
        return self.store

    def create_index_kms(
        self, config_location: object, index_name: str, blob: EnvelopeLike
    ) -> None:
        self.client.create_index_kms(self.location(config_location), index_name, blob)

    def push_index_kms(self, config_location: object, index_name: str, blob: EnvelopeLike) -> None:
        self.client.push_index_kms(self.location(config_location), index_name, blob)

    def get_index_kms(self, config_location: object, index_name: str) -> KMSBlob:
        return self.client.get_index_kms(self.location(config_location), index_name)

    def delete_index_kms(self, config_location: object, index_name: str) -> None:
        self.client.delete_index_kms(self.location(config_location), index_name)


installation: Installation | None = None


def create_index_kms(config_location: object, index_name: str, blob: EnvelopeLike) -> None:
    """Stores an envelope in kekd. Raises ValueError if the index has one."""
    _current().create_index_kms(config_location, index_name, blob)


def push_index_kms(config_location: object, index_name: str, blob: EnvelopeLike) -> None:
    """Stores an envelope in kekd. Replaces the index's envelope if it has one."""
    _current().push_index_kms(config_location, index_name, blob)


def get_index_kms(config_location: object, index_name: str) -> KMSBlob:
    """Returns an index's envelope from kekd. Raises ValueError if it has none."""
    blob: KMSBlob = _current().get_index_kms(config_location, index_name)
    return blob


def delete_index_kms(config_location: object, index_name: str) -> None:
    """Deletes an index's envelope in kekd. Does nothing if it has none."""
    _current().delete_index_kms(config_location, index_name)


REPLACEMENTS: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function
    for function in (create_index_kms, push_index_kms, get_index_kms, delete_index_kms)
}


def _current() -> Any:
    """Returns the daemon's functions, or cyborgdb_core's own after `uninstall`.

    A thread may have looked up the replacement before `uninstall`, or an object may keep it.
    """
    import cyborgdb_core  # noqa: PLC0415  (imported by now)

    return installation or cyborgdb_core
