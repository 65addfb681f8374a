"""Installs kekd.cyborgdb in the processes that multiprocessing starts with a new interpreter."""

from collections.abc import Callable
from multiprocessing import spawn

from kekd import cyborgdb
from kekd._models import StorageConfig


def install_with_children(store: StorageConfig | None) -> None:
    """Installs kekd.cyborgdb in this process, and in all descendants that multiprocessing starts.

    uvicorn starts such processes for `--reload` and `--workers`. Without this, they would silently
    use the keystore of cyborgdb_core. A child that was forked has its parent's functions anyway.
    """
    cyborgdb.install(store=store)
    prepare = spawn.get_preparation_data

    def prepare_with_kekd(name: str) -> dict[str, object]:
        return prepare(name) | {"kekd": _InstallationInChild(store)}

    # There is no official hook. Both start methods call this for what a child needs first.
    spawn.get_preparation_data = prepare_with_kekd


class _InstallationInChild:
    """Installs kekd.cyborgdb where it is unpickled."""

    def __init__(self, store: StorageConfig | None) -> None:
        self._store = store

    def __reduce__(self) -> tuple[Callable[[StorageConfig | None], None], tuple[object]]:
        return install_with_children, (self._store,)
