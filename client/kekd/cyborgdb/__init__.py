"""Makes CyborgDB Service 0.18 keep its envelopes in a kekd daemon.

    import kekd.cyborgdb

    kekd.cyborgdb.install("unix:/run/kekd/kekd.sock")

`python -m kekd.cyborgdb COMMAND` does the same for a command, with the daemon of KEKD_ADDRESS.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from kekd._client import Client
from kekd._models import EnvelopeLike, KMSBlob, StorageConfig
from kekd._transport import timeouts
from kekd._transport.tls import Tls

FUNCTIONS: Final = ("create_index_kms", "push_index_kms", "get_index_kms", "delete_index_kms")

_Functions = Mapping[str, Callable[..., Any]]

_lock = threading.Lock()
_client: Client | None = None
_store: StorageConfig | None = None
_originals: dict[str, Callable[..., Any]] = {}


def install(
    address: str | None = None,
    *,
    tls: Tls | None = None,
    store: StorageConfig | None = None,
    timeout: float = timeouts.DEFAULT_TIMEOUT,
) -> None:
    """Replaces cyborgdb_core's four functions for envelopes by calls to a daemon.

    Also replaces them in every module that has imported them by name, so you can call this before
    or after the service is imported, or while it runs. Nothing else of the service changes. Another
    call replaces the daemon. `address`, `tls` and `timeout` are those of `kekd.Client`.

    `store` is the store for cyborgdb_core's StorageConfig, whose path or bucket can't be read: by
    default the daemon's default store. Credentials in it never leave the process.
    """
    global _client, _store
    import cyborgdb_core  # noqa: PLC0415  (imports slowly, and the caller has the extra)

    client = Client(address, tls=tls, timeout=timeout)
    with _lock:
        previous, _client, _store = _client, client, store
        if not _originals:
            _originals.update({name: getattr(cyborgdb_core, name) for name in FUNCTIONS})
            _replace(_originals, _REPLACEMENTS)
    if previous:
        previous.close()


def uninstall() -> None:
    """Puts cyborgdb_core's own functions back. Does nothing if they weren't replaced."""
    global _client
    with _lock:
        previous, _client = _client, None
        if _originals:
            _replace(_REPLACEMENTS, _originals)
            _originals.clear()
    if previous:
        previous.close()


def is_installed() -> bool:
    return _client is not None


def _create_index_kms(config_location: object, index_name: str, blob: EnvelopeLike) -> None:
    _require_client().create_index_kms(_location(config_location), index_name, blob)


def _push_index_kms(config_location: object, index_name: str, blob: EnvelopeLike) -> None:
    _require_client().push_index_kms(_location(config_location), index_name, blob)


def _get_index_kms(config_location: object, index_name: str) -> KMSBlob:
    return _require_client().get_index_kms(_location(config_location), index_name)


def _delete_index_kms(config_location: object, index_name: str) -> None:
    _require_client().delete_index_kms(_location(config_location), index_name)


_REPLACEMENTS: Final[_Functions] = {
    "create_index_kms": _create_index_kms,
    "push_index_kms": _push_index_kms,
    "get_index_kms": _get_index_kms,
    "delete_index_kms": _delete_index_kms,
}


def _location(config_location: object) -> StorageConfig | None:
    if isinstance(config_location, StorageConfig):
        return config_location
    import cyborgdb_core  # noqa: PLC0415  (imported by now)

    if not isinstance(config_location, cyborgdb_core.StorageConfig):
        raise TypeError(
            f"config_location is a {type(config_location).__name__}; pass a StorageConfig"
        )
    return _store


def _require_client() -> Client:
    # A thread may have looked up the function before `uninstall`.
    if _client is None:
        raise RuntimeError("kekd.cyborgdb is not installed; call install()")
    return _client


def _replace(old: _Functions, new: _Functions) -> None:
    """Replaces functions wherever a module has bound them, under any name.

    The extension module keeps cyborgdb_core's own: nothing but its package imports from it.
    """
    by_identity = {id(function): new[name] for name, function in old.items()}
    for module in list(sys.modules.values()):
        if module.__name__ in _SKIPPED:
            continue
        for name, value in list(vars(module).items()):
            if (function := by_identity.get(id(value))) is not None:
                setattr(module, name, function)


_SKIPPED: Final = {__name__, "cyborgdb_core.cyborgdb_core"}
