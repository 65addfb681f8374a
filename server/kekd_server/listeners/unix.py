"""Unix socket listeners. The socket is created so that no other user can have touched it."""

import fcntl
import os
import socket
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from kekd_common.address import grpc_target, socket_path
from kekd_server.listeners.engine import AddPort, EngineName
from kekd_server.listeners.errors import ListenError

_SOCKET_MODE: Final = 0o660
"""For the daemon's user and group."""
_MAX_SOCKET_PATH: Final = 107
"""sun_path of unix(7), less its terminator."""
_UNNAMED: Final = "s"
"""The socket until its mode is set, in a folder that nobody else can enter."""


@dataclass(frozen=True, slots=True)
class UnixListener:
    path: Path
    engine: EngineName = "auto"
    role: str = "unix"
    """What its callers are known as."""

    is_local: ClassVar = True

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """While it lasts, the path is this process's to bind: a stale socket is removed, a live one
        is refused, and anything bound inside gets mode 0660 at once. Raises `ListenError`.
        """
        try:
            lock = self._claim()
        except OSError as error:
            raise ListenError(f"{self}: {error.strerror}: {self.path}") from error
        try:
            yield
        finally:
            # What can't be removed is taken over at the next start, and hides no other error.
            with suppress(OSError):
                self.path.unlink()
            with suppress(OSError):
                os.close(lock)

    def bind(self, add_port: AddPort) -> None:
        """Makes the socket with its mode from the first moment, in place of one that a killed
        worker left. To be called while it is acquire. Raises `ListenError`.

        It is made where nobody else can reach it and renamed, because a umask would apply to what
        other threads make meanwhile.
        """
        folder = _private_folder(self.path)
        try:
            _remove_private(self.path)  # of a worker that was killed here
            folder.mkdir(mode=0o700)
            try:
                add_port(grpc_target(f"unix:{folder / _UNNAMED}"))
                (folder / _UNNAMED).chmod(_SOCKET_MODE)
                (folder / _UNNAMED).rename(self.path)
            finally:
                _remove_private(self.path)
        except (OSError, RuntimeError) as error:
            raise ListenError(f"{self}: can't be bound: may the folder be written?") from error

    def _claim(self) -> int:
        """The lock, without which two daemons that start at once would both find the other's socket
        stale.
        """
        _make_private_folder(self.path.parent)
        self._check_folder()
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_stale()
        except BlockingIOError:
            os.close(lock)
            raise self._address_in_use() from None
        except (OSError, ListenError):
            os.close(lock)
            raise
        return lock

    def _check_folder(self) -> None:
        folder = self.path.parent.stat()
        if folder.st_uid not in (0, os.geteuid()) or folder.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            raise ListenError(
                f"{self}: others could replace the socket, as they own or may write the folder"
                f" {self.path.parent}: use a folder of the daemon's own."
            )

    def _remove_stale(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not self.path.is_socket():
            raise ListenError(f"{self}: there is something else than a socket: move it away.")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)  # one whose backlog is full would be waited for without end
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                self.path.unlink()
            else:
                raise self._address_in_use()

    def _address_in_use(self) -> ListenError:
        return ListenError(
            f"{self}: another daemon is listening there: stop it, or listen elsewhere."
        )


def parse_unix(address: str, engine: EngineName, role: str) -> UnixListener:
    path = socket_path(address)
    longest = max(path, _private_folder(path) / _UNNAMED, key=_bytes)
    if _bytes(longest) > _MAX_SOCKET_PATH:
        raise ValueError(
            f"'{address}' is too long for a socket: the kernel takes {_MAX_SOCKET_PATH} bytes"
        )
    return UnixListener(path, engine, role)


def _bytes(path: Path) -> int:
    return len(os.fsencode(path))


def _private_folder(path: Path) -> Path:
    """Beside a socket and its own alone, with a name that is hardly longer."""
    return path.with_name(f".{zlib.crc32(os.fsencode(path.name)) & 0xFFFF:04x}")


def _remove_private(path: Path) -> None:
    folder = _private_folder(path)
    with suppress(FileNotFoundError):
        (folder / _UNNAMED).unlink()
    with suppress(FileNotFoundError):
        folder.rmdir()


def _make_private_folder(path: Path) -> None:
    """Creates the folder, and those above it, with access for their owner alone."""
    if path.is_dir():
        return
    _make_private_folder(path.parent)
    with suppress(FileExistsError):  # another process may create it at the same time
        path.mkdir(mode=0o700)
