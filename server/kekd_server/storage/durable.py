"""Writing a file so that a crash leaves the old one or the new one, and done means on disk.

The order of system calls is the whole point (etcd was reported for leaving out the last one,
https://github.com/etcd-io/etcd/issues/6368):

    open(temporary, O_CREAT|O_EXCL)  write  fsync  close
    link(temporary, path)  unlink(temporary)       for a file that must be new, or
    rename(temporary, path)                        for one that may replace another
    open(folder)  fsync  close

Temporary files are in a folder of their own on the same filesystem, so that a crash leaves no stray
among the real ones, and so that a long name doesn't get longer.
"""

import contextlib
import os
import secrets
from pathlib import Path


def create(path: Path, content: bytes, temporary_folder: Path) -> None:
    """Makes a file that isn't there yet. Raises FileExistsError, atomically, if it is."""
    temporary = _write_temporary(content, temporary_folder)
    try:
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
    sync_folder(path.parent)


def replace(path: Path, content: bytes, temporary_folder: Path) -> None:
    """Makes a file, in place of any that is there."""
    temporary = _write_temporary(content, temporary_folder)
    try:
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes a file. Raises FileNotFoundError if there is none."""
    os.unlink(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Makes a folder that only its owner can enter, and those above it, where they aren't there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    # Another process may be just as far.
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        sync_folder(path.parent)


def _write_temporary(content: bytes, folder: Path) -> str:
    path = f"{folder}/{secrets.token_hex(16)}"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            while content:  # a disk that fills up takes a part first
                content = content[os.write(file, content) :]
            os.fsync(file)
        finally:
            os.close(file)
    except OSError:
        os.unlink(path)
        raise
    return path


def sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
