"""The module functions of cyborgdb_core, on a client that the whole process shares."""

from collections.abc import Iterator, Sequence

from kekd._cache import DEFAULT_MAX_STALENESS
from kekd._client import Client
from kekd._models import (
    DestructionReceipt,
    EnvelopeLike,
    EnvelopeVersion,
    Hold,
    KMSBlob,
    StorageConfig,
)
from kekd._transport import timeouts
from kekd._transport.tls import Tls

_shared: Client | None = None


def connect(
    address: str | None = None,
    *,
    tls: Tls | None = None,
    timeout: float = timeouts.DEFAULT_TIMEOUT,
    cache: bool = False,
    max_staleness: float = DEFAULT_MAX_STALENESS,
) -> Client:
    """Sets the daemon that the module functions call, and returns the client that they share.

    The arguments are those of `Client`. Closes the previous shared client.
    """
    global _shared  # noqa: PLW0603  (module functions share state)
    if _shared:
        _shared.close()
    _shared = Client(address, tls=tls, timeout=timeout, cache=cache, max_staleness=max_staleness)
    return _shared


def create_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    blob: EnvelopeLike,
    *,
    timeout: float | None = None,
) -> str:
    """See `Client.create_index_kms`."""
    return _client().create_index_kms(config_location, index_name, blob, timeout=timeout)


def push_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    blob: EnvelopeLike,
    *,
    if_etag: str | None = None,
    timeout: float | None = None,
) -> str:
    """See `Client.push_index_kms`."""
    return _client().push_index_kms(
        config_location, index_name, blob, if_etag=if_etag, timeout=timeout
    )


def get_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    *,
    version_id: str | None = None,
    timeout: float | None = None,
) -> KMSBlob:
    """See `Client.get_index_kms`."""
    return _client().get_index_kms(
        config_location, index_name, version_id=version_id, timeout=timeout
    )


def delete_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    *,
    if_etag: str | None = None,
    timeout: float | None = None,
) -> bool:
    """See `Client.delete_index_kms`."""
    return _client().delete_index_kms(config_location, index_name, if_etag=if_etag, timeout=timeout)


def list_index_kms(
    config_location: StorageConfig | None = None,
    prefix: str = "",
    *,
    show_deleted: bool = False,
    timeout: float | None = None,
) -> Iterator[str]:
    """See `Client.list_index_kms`."""
    return _client().list_index_kms(
        config_location, prefix, show_deleted=show_deleted, timeout=timeout
    )


def list_versions_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    *,
    full: bool = False,
    page_size: int = 0,
    timeout: float | None = None,
) -> Iterator[EnvelopeVersion]:
    """See `Client.list_versions_index_kms`."""
    return _client().list_versions_index_kms(
        config_location, index_name, full=full, page_size=page_size, timeout=timeout
    )


def restore_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    version_id: str,
    *,
    if_etag: str | None = None,
    timeout: float | None = None,
) -> str:
    """See `Client.restore_index_kms`."""
    return _client().restore_index_kms(
        config_location, index_name, version_id, if_etag=if_etag, timeout=timeout
    )


def undelete_index_kms(
    config_location: StorageConfig | None, index_name: str, *, timeout: float | None = None
) -> str:
    """See `Client.undelete_index_kms`."""
    return _client().undelete_index_kms(config_location, index_name, timeout=timeout)


def hold_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    reason: str,
    *,
    timeout: float | None = None,
) -> None:
    """See `Client.hold_index_kms`."""
    _client().hold_index_kms(config_location, index_name, reason, timeout=timeout)


def release_index_kms(
    config_location: StorageConfig | None, index_name: str, *, timeout: float | None = None
) -> bool:
    """See `Client.release_index_kms`."""
    return _client().release_index_kms(config_location, index_name, timeout=timeout)


def find_hold_index_kms(
    config_location: StorageConfig | None, index_name: str, *, timeout: float | None = None
) -> Hold | None:
    """See `Client.find_hold_index_kms`."""
    return _client().find_hold_index_kms(config_location, index_name, timeout=timeout)


def import_versions_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    versions: Sequence[EnvelopeVersion],
    *,
    timeout: float | None = None,
) -> int:
    """See `Client.import_versions_index_kms`."""
    return _client().import_versions_index_kms(
        config_location, index_name, versions, timeout=timeout
    )


def destroy_index_kms(
    config_location: StorageConfig | None,
    index_name: str,
    reason: str,
    *,
    if_etag: str | None = None,
    timeout: float | None = None,
) -> DestructionReceipt:
    """See `Client.destroy_index_kms`."""
    return _client().destroy_index_kms(
        config_location, index_name, reason, if_etag=if_etag, timeout=timeout
    )


def _client() -> Client:
    global _shared  # noqa: PLW0603
    client = _shared
    if client is None:
        # Threads that call at the same time may each create a client. The last one is kept. The
        # others aren't closed, because their threads are using them.
        client = _shared = Client()
    return client
