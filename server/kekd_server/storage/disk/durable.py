"""Writes files durably: a crash leaves the old file or the new one, and a return means "on disk".

The order of the system calls matters (etcd had a bug report because the last one was missing,
https://github.com/etcd-io/etcd/issues/6368):

    open(temporary, O_CREAT|O_EXCL)  flock
    open(temporary)  write  fsync  close
    link(temporary, version)                       if the file has a history
    link(temporary, path)  unlink(temporary)       to create a file, or
    rename(temporary, path)                        to create or replace one
    open(folder)  fsync  close

Temporary files are in a separate folder on the same filesystem, so that a crash leaves no stray
file among the records, and so that a long name doesn't become longer. Each is locked until it has
its final name, so that other processes know that it isn't abandoned. The lock uses a second
descriptor: closing one that was written through is one more event for inotify.

Errors during clean-up are never raised: they would hide the first error, or make a successful write
look like a failure.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, TypeAlias

from kekd_server.model.descriptor import close_quietly, opened
from kekd_server.model.folder import sync_folder

Commit = AbstractContextManager[object]
"""Entered around the one system call that makes a change visible."""
Keep: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""Links the temporary file elsewhere. Entered around the commit."""

_PLAIN_COMMIT: Final[Commit] = nullcontext()


def keep_nothing(_: str) -> AbstractContextManager[object]:
    return nullcontext()


def create(
    path: Path,
    content: bytes,
    temporary_folder: Path,
    commit: Commit = _PLAIN_COMMIT,
    keep: Keep = keep_nothing,
) -> None:
    """Creates a file. Raises FileExistsError, atomically, if it exists."""
    with _temporary(content, temporary_folder) as temporary:
        with keep(temporary), commit:
            os.link(temporary, path)
        _unlink_quietly(temporary)
    sync_folder(path.parent)


def replace(
    path: Path,
    content: bytes,
    temporary_folder: Path,
    commit: Commit = _PLAIN_COMMIT,
    keep: Keep = keep_nothing,
) -> None:
    """Creates or replaces a file."""
    with _temporary(content, temporary_folder) as temporary, keep(temporary), commit:
        os.rename(temporary, path)
    sync_folder(path.parent)


def remove_abandoned(temporary_folder: Path) -> None:
    """Removes the temporary files of processes that have ended. Raises OSError."""
    for path in temporary_folder.iterdir():
        # Another process may finish or remove it at the same time.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            _remove_if_abandoned(path)


def probe(temporary_folder: Path, length: int) -> None:
    """Writes `length` bytes as `replace` does, and removes them. Raises OSError."""
    with _temporary(bytes(length), temporary_folder) as temporary:
        os.unlink(temporary)
    sync_folder(temporary_folder)


def probe_link(temporary_folder: Path, folder: Path) -> None:
    """Links a file from one folder into the other, and removes it. Raises OSError."""
    with _temporary(b"", temporary_folder) as temporary:
        link = f"{folder}/{os.path.basename(temporary)}"
        try:
            os.link(temporary, link)
        finally:
            _unlink_quietly(link)
            _unlink_quietly(temporary)


def remove(path: Path, commit: Commit = _PLAIN_COMMIT) -> None:
    """Removes a file. Raises FileNotFoundError if there is none."""
    with commit:
        os.unlink(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def _temporary(content: bytes, folder: Path) -> Iterator[str]:
    """Yields a temporary file with the content, synced to disk."""
    path, lock = _create_locked(folder)
    try:
        with opened(path, os.O_WRONLY) as file:
            while content:  # a disk that is filling up takes only a part
                content = content[os.write(file, content) :]
            os.fsync(file)
        yield path
    except BaseException:
        _unlink_quietly(path)
        raise
    finally:
        close_quietly(lock)


def _create_locked(folder: Path) -> tuple[str, int]:
    """Takes a shared lock, which needs only read access, also on network filesystems."""
    while True:
        path = f"{folder}/{secrets.token_hex(16)}"
        lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A process that is starting may remove it as abandoned before it is locked.
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
    with opened(path, os.O_RDWR) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


def _unlink_quietly(path: str) -> None:
    """The next start removes a file that is left."""
    with contextlib.suppress(OSError):
        os.unlink(path)
