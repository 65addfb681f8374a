"""cyborgdb_core's module functions, over a client that the whole process shares."""

from collections.abc import Iterator

from kekd._cache.envelope_cache import DEFAULT_MAX_STALENESS
from kekd._client import Client
from kekd._models import EnvelopeLike, KMSBlob, StorageConfig
from kekd._transport import channel
from kekd._transport.tls import Tls

_shared: Client | None = None


def connect(
    address: str | None = None,
    *,
    tls: Tls | None = None,
    timeout: float = channel.DEFAULT_TIMEOUT,
    cache: bool = False,
    max_staleness: float = DEFAULT_MAX_STALENESS,
) -> Client:
    """Makes the module functions call the daemon at `address`, as `Client` understands it.

    Without it they call the daemon that `Client()` would. Returns the client they now share.
    """
    global _shared  # noqa: PLW0603  (the module functions are global by their nature)
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
    config_location: StorageConfig | None, index_name: str, *, timeout: float | None = None
) -> KMSBlob:
    """See `Client.get_index_kms`."""
    return _client().get_index_kms(config_location, index_name, timeout=timeout)


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
    timeout: float | None = None,
) -> Iterator[str]:
    """See `Client.list_index_kms`."""
    return _client().list_index_kms(config_location, prefix, timeout=timeout)


def _client() -> Client:
    global _shared  # noqa: PLW0603
    client = _shared
    if client is None:
        # Threads that come first together may make one each. The last one stays, and none is closed
        # while another calls by it.
        client = _shared = Client()
    return client
