"""The folders of a keystore on disk, which distinguish it from an empty mount point."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from kekd_server.model.descriptor import opened
from kekd_server.model.errors import NoKeystoreError
from kekd_server.model.folder import is_folder, make_folder

RECORDS: Final = Path("_catalog", "config")
TEMPORARY: Final = Path("_kekd", "tmp")
LOCKS: Final = Path("_kekd", "locks")
HISTORY: Final = Path("_kekd", "history")
HOLDS: Final = Path("_kekd", "holds")
DESTRUCTIONS: Final = Path("_kekd", "destructions")

_MARKERS: Final = ("_catalog", "_kekd")
"""CyborgDB's folder and kekd's. A folder with one of them is a keystore."""


def open_keystore(root: Path, *, create: bool) -> bool:
    """Creates the missing folders of a keystore; a new keystore only if `create` is true. Returns
    whether it created one. Raises `NoKeystoreError` if there is none, and OSError.

    If the records can be read, it doesn't fail: a disk that is full or read-only still serves them,
    and `restore` creates the other folders later.
    """
    if create:
        make_folder(root)
    elif not root.exists():
        raise _no_keystore(root)
    with _opened(root) as folder:
        is_new = not any(is_folder(marker, within=folder) for marker in _MARKERS)
        if is_new and not create:
            raise _no_keystore(root)
        make_folder(RECORDS, within=folder)
        try:
            _make_own_folders(folder)
        except OSError:
            if is_new or not _is_readable(RECORDS, folder):
                raise
    return is_new


def restore(root: Path) -> None:
    """Creates kekd's own folders. Raises OSError, also if the folder of the records is missing."""
    with _opened(root) as folder:
        os.stat(RECORDS, dir_fd=folder)
        _make_own_folders(folder)


def _opened(root: Path) -> AbstractContextManager[int]:
    """Opens the folder once, so that every path relative to it stays on that volume, even if the
    volume is unmounted in the meantime.
    """
    return opened(root, os.O_RDONLY | os.O_DIRECTORY)


def _no_keystore(root: Path) -> NoKeystoreError:
    return NoKeystoreError(str(root), "its volume may not be mounted")


def _is_readable(path: Path, folder: int) -> bool:
    return os.access(path, os.R_OK | os.X_OK, dir_fd=folder, effective_ids=True)


def _make_own_folders(folder: int) -> None:
    for path in (TEMPORARY, LOCKS, HISTORY, HOLDS, DESTRUCTIONS):
        make_folder(path, within=folder)
