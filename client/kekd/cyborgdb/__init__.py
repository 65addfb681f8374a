"""Makes CyborgDB Service 0.18 keep its envelopes in a kekd daemon.

    import kekd.cyborgdb

    kekd.cyborgdb.install("unix:/run/kekd/kekd.sock")

`python -m kekd.cyborgdb COMMAND` does the same for a command, with the daemon of KEKD_ADDRESS.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from kekd._client import Client
from kekd._models import StorageConfig
from kekd._transport import timeouts
from kekd._transport.tls import Tls
from kekd.cyborgdb import _functions

__all__ = ["install", "is_installed", "uninstall"]

FUNCTIONS: Final = tuple(_functions.REPLACEMENTS)

_Functions = Mapping[str, Callable[..., Any]]

_lock = threading.Lock()
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
    call replaces the daemon; calls in flight end on the previous one. `address`, `tls` and
    `timeout` are those of `kekd.Client`.

    `store` is the store for cyborgdb_core's StorageConfig, whose path or bucket can't be read: by
    default the daemon's default store. Credentials in it never leave the process.
    """
    if store is not None and not isinstance(store, StorageConfig):
        raise TypeError(
            f"cannot install kekd.cyborgdb: store is a {type(store).__name__}; pass a"
            " kekd.StorageConfig, such as StorageConfig.named('memory')"
        )
    core = _import_core()
    client = Client(address, tls=tls, timeout=timeout)
    with _lock:
        # The previous client closes its connection when the last call drops it.
        _functions.installation = _functions.Installation(client, store)
        if not _originals:
            _originals.update({name: getattr(core, name) for name in FUNCTIONS})
            _replace(_originals, _functions.REPLACEMENTS)


def uninstall() -> None:
    """Puts cyborgdb_core's own functions back. Does nothing if they weren't replaced.

    Calls in flight end on the daemon.
    """
    with _lock:
        _replace(_functions.REPLACEMENTS, _originals)
        _originals.clear()
        _functions.installation = None


def is_installed() -> bool:
    return _functions.installation is not None


def _import_core() -> ModuleType:
    try:
        import cyborgdb_core  # noqa: PLC0415  (imports slowly, and the caller has the extra)
    except ModuleNotFoundError as error:
        if error.name != "cyborgdb_core":
            raise
        raise ModuleNotFoundError(
            "cannot install kekd.cyborgdb: this environment has no cyborgdb_core; install"
            " cyborgdb-service in it",
            name=error.name,
        ) from None
    module: ModuleType = cyborgdb_core
    return module


def _replace(old: _Functions, new: _Functions) -> None:
    """Replaces functions wherever a module has bound them, under any name.

    The extension module keeps cyborgdb_core's own: nothing but its package imports from it.
    """
    by_identity = {id(old[name]): function for name, function in new.items()}
    for module in list(sys.modules.values()):
        if module.__name__ in _SKIPPED:
            continue
        for name, value in list(vars(module).items()):
            if (function := by_identity.get(id(value))) is not None:
                setattr(module, name, function)


_SKIPPED: Final = {_functions.__name__, "cyborgdb_core.cyborgdb_core"}
