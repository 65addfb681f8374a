"""Unix socket listeners. No other user can access the socket before its mode is set."""

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
from kekd_server.model.folder import make_folder

_SOCKET_MODE: Final = 0o660
"""Access for the daemon's user and group."""
_MAX_SOCKET_PATH: Final = 107
"""The length of sun_path (unix(7)) without its terminator."""
_UNNAMED: Final = "s"
"""The name of the socket in its private folder, until its mode is set."""


@dataclass(frozen=True, slots=True)
class UnixListener:
    path: Path
    engine: EngineName = "auto"
    role: str = "unix"
    """The identity of its callers."""

    is_local: ClassVar = True

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Reserves the path for this process. Removes a stale socket. Raises `ListenError` if
        another daemon listens there.
        """
        try:
            lock = self._lock()
        except OSError as error:
            raise ListenError(f"{self}: {error.strerror}: {self.path}") from error
        try:
            yield
        finally:
            # The next start removes a socket that is left. Errors here would hide earlier ones.
            with suppress(OSError):
                self.path.unlink()
            with suppress(OSError):
                os.close(lock)

    def bind(self, add_port: AddPort) -> None:
        """Creates the socket, and replaces one that a killed worker left. Call it inside `acquire`.
        Raises `ListenError`.

        The socket is created in a private folder, gets its mode, and is then renamed. A umask would
        also apply to files that other threads create at the same time.
        """
        folder = _private_folder(self.path)
        try:
            _remove_private(self.path)  # left by a worker that was killed
            folder.mkdir(mode=0o700)
            try:
                add_port(grpc_target(f"unix:{folder / _UNNAMED}"))
                (folder / _UNNAMED).chmod(_SOCKET_MODE)
                (folder / _UNNAMED).rename(self.path)
            finally:
                _remove_private(self.path)
        except (OSError, RuntimeError) as error:
            raise ListenError(
                f"{self}: cannot be bound: its folder may not be writable; check its permissions"
            ) from error

    def _lock(self) -> int:
        """Returns a lock. Without it, two daemons that start at the same time could each remove the
        other's socket as stale.
        """
        make_folder(self.path.parent)
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
                f"{self}: other users could replace the socket: they own or can write the folder"
                f" {self.path.parent}; use a folder that only the daemon can write"
            )

    def _remove_stale(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not self.path.is_socket():
            raise ListenError(f"{self}: cannot be bound: the file is not a socket; remove it")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)  # otherwise a full backlog would block without end
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                self.path.unlink()
            else:
                raise self._address_in_use()

    def _address_in_use(self) -> ListenError:
        return ListenError(
            f"{self}: another daemon is listening there; stop it, or use another address"
        )


def parse_unix(address: str, engine: EngineName, role: str) -> UnixListener:
    path = socket_path(address)
    longest = max(path, _private_folder(path) / _UNNAMED, key=_bytes)
    if _bytes(longest) > _MAX_SOCKET_PATH:
        raise ValueError(
            f"'{address}' is too long for a socket; use at most {_MAX_SOCKET_PATH} bytes"
        )
    return UnixListener(path, engine, role)


def _bytes(path: Path) -> int:
    return len(os.fsencode(path))


def _private_folder(path: Path) -> Path:
    """Returns a folder beside the socket, for that socket only, with a short name."""
    return path.with_name(f".{zlib.crc32(os.fsencode(path.name)) & 0xFFFF:04x}")


def _remove_private(path: Path) -> None:
    folder = _private_folder(path)
    with suppress(FileNotFoundError):
        (folder / _UNNAMED).unlink()
    with suppress(FileNotFoundError):
        folder.rmdir()
