"""Writes files durably: a crash leaves the old file or the new one, and a return means "on disk".

The order of the system calls matters (etcd had a bug report because the last one was missing,
https://github.com/etcd-io/etcd/issues/6368):

    open(folder, O_TMPFILE)  write  fsync
    flock  link(file, temporary)                   to create or replace a file, and not to create it
    link(file, version)                            if the file has a history
    link(file, path)                               to create it, or
    rename(temporary, path)                        to create or replace it
    close
    open(folder)  fsync  close

A write pauses before each fsync(2). Writes that run together make their calls up to the pause one
after the other. Then posix_fadvise(2) begins to write all files, and fsync(2) waits for each, in
several threads. When all files are synced, the writes continue one after the other. The folder is
synced once, after the last of them has changed it, and before any of them returns.

The file has no name until it is complete, so a crash removes it. A replacement needs a name for the
rename(2), and a crash right after the link leaves that. Temporary names are in a separate folder on
the same filesystem, so that they are no stray files among the records, and so that a long name
doesn't become longer. The lock shows other processes that the file isn't abandoned.

Where a filesystem has no O_TMPFILE, or /proc isn't mounted, the file has the temporary name from
the beginning:

    open(temporary, O_CREAT|O_EXCL)  flock
    open(temporary)  write  fsync  close

The lock uses a second descriptor: closing one that was written through is one more event for
inotify.

Errors during clean-up are never raised: they would hide the first error, or make a successful write
look like a failure.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from kekd_server.model.descriptor import close_quietly, opened
from kekd_server.model.folder import sync_folder
from kekd_server.storage.disk.syncs import FileSync, FolderSync
from kekd_server.storage.writes.steps import Steps, complete


class UnsyncedError(OSError):
    """A change is visible, but a crash may undo it."""


class NewFile(Protocol):
    """A file that has no name yet, or a temporary one. Write it first."""

    def write(self, content: bytes) -> Steps[None]:
        """Writes it to the disk. Raises OSError."""

    def link(self, path: str) -> None:
        """Raises OSError."""

    def stat(self) -> os.stat_result:
        """Raises OSError."""

    def named(self) -> AbstractContextManager[str]:
        """Yields a temporary path, which the body may rename. Raises OSError."""


Commit: TypeAlias = Callable[[NewFile], AbstractContextManager[object]]
"""Called when the content is on disk. Entered before the first system call that leaves something
after a crash, and left after the one that makes the change visible. May link the file elsewhere."""

_O_TMPFILE: Final[int] = getattr(os, "O_TMPFILE", 0)
_NO_TMPFILE_ERRORS: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
_DESCRIPTORS: Final = "/proc/self/fd"


def commit_plainly(_: NewFile) -> AbstractContextManager[object]:
    return nullcontext()


def create(path: str, content: bytes, temporary_folder: Path) -> None:
    """Creates a file. Raises FileExistsError, atomically, if it exists."""
    complete(create_steps(path, content, temporary_folder))


def create_steps(
    path: str, content: bytes, temporary_folder: Path, commit: Commit = commit_plainly
) -> Steps[None]:
    """The steps of `create`."""
    with _new_file(temporary_folder) as file:
        yield from file.write(content)
        with commit(file):
            file.link(path)
    yield from sync_folder_steps(os.path.dirname(path))


def replace(path: str, content: bytes, temporary_folder: Path) -> None:
    """Creates or replaces a file."""
    complete(replace_steps(path, content, temporary_folder))


def replace_steps(
    path: str, content: bytes, temporary_folder: Path, commit: Commit = commit_plainly
) -> Steps[None]:
    """The steps of `replace`."""
    with _new_file(temporary_folder) as file:
        yield from file.write(content)
        with file.named() as temporary, commit(file):
            os.rename(temporary, path)
    yield from sync_folder_steps(os.path.dirname(path))


def remove_abandoned(temporary_folder: Path) -> None:
    """Removes the temporary files of processes that have ended. Raises OSError."""
    for path in temporary_folder.iterdir():
        # Another process may finish or remove it at the same time.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            _remove_if_abandoned(path)


def probe(temporary_folder: Path, length: int) -> None:
    """Writes `length` bytes as `replace` does, and removes them. Raises OSError."""
    with _new_file(temporary_folder) as file:
        complete(file.write(bytes(length)))
        with file.named() as temporary:
            os.unlink(temporary)
    sync_folder(temporary_folder)


def probe_link(temporary_folder: Path, folder: Path) -> None:
    """Links a file from one folder into the other, and removes it. Raises OSError."""
    link = f"{folder}/{secrets.token_hex(16)}"
    with _new_file(temporary_folder) as file:
        complete(file.write(b""))
        try:
            file.link(link)
        finally:
            _unlink_quietly(link)


def probe_record_link(record: str, folder: Path) -> None:
    """Links a record into a folder, and removes the link. Raises OSError."""
    link = f"{folder}/{secrets.token_hex(16)}"
    os.link(record, link, follow_symlinks=False)
    _unlink_quietly(link)


def remove(path: str) -> None:
    """Removes a file. Raises FileNotFoundError if there is none."""
    complete(remove_steps(path))


def remove_steps(path: str) -> Steps[None]:
    """The steps of `remove`."""
    os.unlink(path)
    yield from sync_folder_steps(os.path.dirname(path))


def sync_folder_steps(path: str) -> Steps[None]:
    """Syncs a folder in which a file was created, replaced or removed. Raises `UnsyncedError`."""
    try:
        yield FolderSync(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsyncedError(error.errno, error.strerror) from error


@contextlib.contextmanager
def _new_file(folder: Path) -> Iterator[NewFile]:
    unnamed = _open_unnamed(folder)
    if unnamed is None:
        with _create_named(folder) as named:
            yield named
        return
    try:
        yield _UnnamedFile(unnamed, folder)
    finally:
        # Its content is on disk, so an error doesn't matter.
        close_quietly(unnamed)


def _open_unnamed(folder: Path) -> int | None:
    """Returns None where the filesystem or the system can't create a file without a name."""
    if not _can_link_descriptors():
        return None
    try:
        return os.open(folder, os.O_WRONLY | _O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE_ERRORS:
            raise
        return None


@cache
def _can_link_descriptors() -> bool:
    return bool(_O_TMPFILE) and os.path.isdir(_DESCRIPTORS)


def _write(file: int, content: bytes) -> Steps[None]:
    while content:  # a disk that is filling up takes only a part
        content = content[os.write(file, content) :]
    yield FileSync(file)


class _UnnamedFile:
    def __init__(self, file: int, folder: Path) -> None:
        self._file = file
        self._folder = folder

    def write(self, content: bytes) -> Steps[None]:
        return _write(self._file, content)

    def link(self, path: str) -> None:
        # Python calls linkat(2) only if it gets a folder, which an absolute path doesn't need.
        os.link(f"{_DESCRIPTORS}/{self._file}", path, src_dir_fd=self._file, follow_symlinks=True)

    def stat(self) -> os.stat_result:
        return os.fstat(self._file)

    @contextlib.contextmanager
    def named(self) -> Iterator[str]:
        path = f"{self._folder}/{secrets.token_hex(16)}"
        fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self.link(path)
        try:
            yield path
        except BaseException:
            _unlink_quietly(path)
            raise


class _NamedFile:
    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, content: bytes) -> Steps[None]:
        with opened(self._path, os.O_WRONLY) as file:
            yield from _write(file, content)

    def link(self, path: str) -> None:
        os.link(self._path, path)

    def stat(self) -> os.stat_result:
        return os.stat(self._path)

    @contextlib.contextmanager
    def named(self) -> Iterator[str]:
        yield self._path


@contextlib.contextmanager
def _create_named(folder: Path) -> Iterator[_NamedFile]:
    path, lock = _create_locked(folder)
    try:
        yield _NamedFile(path)
    finally:
        _unlink_quietly(path)
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
