"""The folders of a keystore on disk, and what tells it from a mount point without its volume."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kekd_server.model.errors import NoKeystoreError
from kekd_server.storage.disk import durable

RECORDS: Final = Path("_catalog", "config")
TEMPORARY: Final = Path("_kekd", "tmp")
LOCKS: Final = Path("_kekd", "locks")

_MARKS: Final = ("_catalog", "_kekd")
"""CyborgDB's folder and kekd's."""


def open_keystore(root: Path, *, create: bool) -> bool:
    """Makes the folders that are missing, or all of them if it may `create` a keystore; whether it
    did. Raises `NoKeystoreError` if there is none, and OSError. Records that can be read suffice: a
    disk that is full or read-only still serves them, and `restore` makes the rest later.
    """
    if create:
        durable.make_folder(root)
    elif not root.exists():
        raise _no_keystore(root)
    with _opened(root) as folder:
        is_new = not any(_is_folder(mark, folder) for mark in _MARKS)
        if is_new and not create:
            raise _no_keystore(root)
        _make(RECORDS, folder)
        try:
            _make_own(folder)
        except OSError:
            if is_new or not _is_readable(RECORDS, folder):
                raise
    return is_new


def restore(root: Path) -> None:
    """Makes what is kekd's own beside the records. Raises OSError, also if there are no records."""
    with _opened(root) as folder:
        os.stat(RECORDS, dir_fd=folder)
        _make_own(folder)


@contextmanager
def _opened(root: Path) -> Iterator[int]:
    """Opens the folder once, so that everything relative to it stays on that volume, even if the
    volume is unmounted meanwhile.
    """
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        durable.close_quietly(folder)


def _no_keystore(root: Path) -> NoKeystoreError:
    return NoKeystoreError(str(root), "is its volume mounted?")


def _is_folder(path: str | Path, folder: int) -> bool:
    try:
        os.close(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_readable(path: Path, folder: int) -> bool:
    return os.access(path, os.R_OK | os.X_OK, dir_fd=folder, effective_ids=True)


def _make_own(folder: int) -> None:
    for path in (TEMPORARY, LOCKS):
        _make(path, folder)


def _make(path: Path, folder: int) -> None:
    """With those above it."""
    if path == Path() or _is_folder(path, folder):
        return
    _make(path.parent, folder)
    try:
        os.mkdir(path, 0o700, dir_fd=folder)
    except FileExistsError:
        if not _is_folder(path, folder):  # else another process was faster
            raise
    durable.sync_folder(path.parent, within=folder)
