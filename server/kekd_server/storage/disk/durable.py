"""Writing a file so that a crash leaves the old one or the new one, and done means on disk.

The order of system calls is the whole point (etcd was reported for leaving out the last one,
https://github.com/etcd-io/etcd/issues/6368):

    open(temporary, O_CREAT|O_EXCL)  flock
    open(temporary)  write  fsync  close
    link(temporary, path)  unlink(temporary)       for a file that must be new, or
    rename(temporary, path)                        for one that may replace another
    open(folder)  fsync  close

Temporary files are in a folder of their own on the same filesystem, so that a crash leaves no stray
among the real ones, and so that a long name doesn't get longer. Each is locked until it has its
name, by which other processes know that it isn't abandoned. What is locked is a descriptor of its
own, as closing one that was written through would be one more change for those who watch the path.

An error during clean-up is never raised: it would hide the first error, or have a write that was
done look like one that failed.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

Applying = AbstractContextManager[object]
"""Entered around the one system call that makes a change visible."""

NOT_RECORDED: Final[Applying] = nullcontext()


def create(
    path: Path, content: bytes, temporary_folder: Path, applying: Applying = NOT_RECORDED
) -> None:
    """Makes a file that isn't there yet. Raises FileExistsError, atomically, if it is."""
    with _temporary(content, temporary_folder) as temporary:
        with applying:
            os.link(temporary, path)
        _unlink_quietly(temporary)
    sync_folder(path.parent)


def replace(
    path: Path, content: bytes, temporary_folder: Path, applying: Applying = NOT_RECORDED
) -> None:
    """Makes a file, in place of any that is there."""
    with _temporary(content, temporary_folder) as temporary, applying:
        os.rename(temporary, path)
    sync_folder(path.parent)


def remove_abandoned(temporary_folder: Path) -> None:
    """Removes the temporary files of processes that live no more. Raises OSError."""
    for path in temporary_folder.iterdir():
        # Another process may finish or remove it just now.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            _remove_if_abandoned(path)


def probe(temporary_folder: Path, length: int) -> None:
    """Writes that many bytes as `replace` does, and removes them. Raises OSError if that fails."""
    with _temporary(bytes(length), temporary_folder) as temporary:
        os.unlink(temporary)
    sync_folder(temporary_folder)


def remove(path: Path, applying: Applying = NOT_RECORDED) -> None:
    """Removes a file. Raises FileNotFoundError if there is none."""
    with applying:
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


def sync_folder(path: Path, *, within: int | None = None) -> None:
    """`within`: the descriptor of the folder that a relative path starts from."""
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY, within=within) as folder:
        os.fsync(folder)


def close_quietly(file: int) -> None:
    """For what was only read or locked, so that nothing depends on how close(2) ends."""
    with contextlib.suppress(OSError):
        os.close(file)


@contextlib.contextmanager
def _temporary(content: bytes, folder: Path) -> Iterator[str]:
    """A file with that content on disk, for the caller to give its name."""
    path, lock = _new_locked(folder)
    try:
        with _opened(path, os.O_WRONLY) as file:
            while content:  # a disk that fills up takes a part first
                content = content[os.write(file, content) :]
            os.fsync(file)
        yield path
    except BaseException:
        _unlink_quietly(path)
        raise
    finally:
        close_quietly(lock)


def _new_locked(folder: Path) -> tuple[str, int]:
    """Shared, as that takes no more than a file that may be read, on network filesystems too."""
    while True:
        path = f"{folder}/{secrets.token_hex(16)}"
        lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A process that starts may take it for abandoned before it is locked.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if os.fstat(lock).st_nlink:
                    return path, lock
        except OSError:
            _unlink_quietly(path)
            close_quietly(lock)
            raise
        close_quietly(lock)


def _remove_if_abandoned(path: Path) -> None:
    with _opened(path, os.O_RDWR) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


@contextlib.contextmanager
def _opened(path: str | Path, flags: int, *, within: int | None = None) -> Iterator[int]:
    """An error of close(2) counts, as a network filesystem may report a write's there; but not if
    something else failed before, which says more.
    """
    file = os.open(path, flags | os.O_CLOEXEC, dir_fd=within)
    try:
        yield file
    except BaseException:
        close_quietly(file)
        raise
    os.close(file)


def _unlink_quietly(path: str) -> None:
    """What is left is removed at a next start."""
    with contextlib.suppress(OSError):
        os.unlink(path)
