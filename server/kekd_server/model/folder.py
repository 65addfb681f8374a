"""Creates folders that survive a crash."""

import errno
import os
from pathlib import Path

from kekd_server.model.descriptor import opened


def make_folder(path: Path, *, within: int | None = None) -> None:
    """Creates a folder and its parents where they are missing, with access for the owner only.
    Raises OSError.

    `within`: the descriptor of the folder that a relative path is resolved from.
    """
    if path == Path() or is_folder(path, within=within):
        return
    make_folder(path.parent, within=within)
    try:
        os.mkdir(path, 0o700, dir_fd=within)
    except FileExistsError:
        if not is_folder(path, within=within):  # otherwise another process created it
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    sync_folder(path.parent, within=within)


def is_folder(path: str | Path, *, within: int | None = None) -> bool:
    try:
        os.close(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=within))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def sync_folder(path: str | Path, *, within: int | None = None) -> None:
    with opened(path, os.O_RDONLY | os.O_DIRECTORY, within=within) as folder:
        os.fsync(folder)
