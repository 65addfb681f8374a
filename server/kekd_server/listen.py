"""Where the daemon listens, and the making of a Unix socket that nobody else could have touched."""

import fcntl
import os
import socket
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeAlias

from kekd_proto.address import grpc_target, is_loopback, socket_path
from kekd_server import ports
from kekd_server.storage import durable

_SOCKET_MODE: Final = 0o660
"""For the daemon's user and group."""
_MAX_SOCKET_PATH: Final = 107
"""sun_path of unix(7), less its terminator."""
_UNNAMED: Final = "s"
"""The socket until its mode is set, in a folder that nobody else can enter."""


class ListenError(Exception):
    """The address can't be listened on; the text says why and what to do."""


EngineName: TypeAlias = Literal["auto", "grpcio", "native"]
"""What speaks HTTP/2 on a listener."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a listener's certificate is, and the CA of those who may call it, all in PEM."""

    cert: Path
    key: Path
    client_ca: Path | None
    """Without one, callers aren't asked for a certificate."""


@dataclass(frozen=True, slots=True)
class TcpListener:
    host: str
    port: int
    engine: EngineName = "auto"
    shared: bool = False
    """Whether several workers listen there."""
    tls: TlsFiles | None = None
    role: str = "tcp"
    """For callers without a certificate: what they are known as."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """While it lasts, no other daemon gets a port that is shared. Any other is only looked at:
        the kernel refuses one that is taken, but gRPC is content with one of the addresses that a
        name stands for, and callers would reach another daemon by the other. Raises `ListenError`.
        """
        with ExitStack() as claim:
            try:
                claim.enter_context(ports.held(self.host, self.port))
            except OSError as error:
                raise self._taken() from error
            if not self.shared:
                claim.close()
            yield

    def bind(self, add_port: "AddPort") -> None:
        """Raises `ListenError`."""
        try:
            add_port(str(self))
        except RuntimeError as error:
            raise self._taken() from error

    def _taken(self) -> ListenError:
        return ListenError(f"{self}: can't be bound: is the port taken?")


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
    def claimed(self) -> Iterator[None]:
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
            durable.close_quietly(lock)

    def bind(self, add_port: "AddPort") -> None:
        """Makes the socket with its mode from the first moment, in place of one that a killed
        worker left. To be called while it is claimed. Raises `ListenError`.

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
        durable.make_folder(self.path.parent)
        self._check_folder()
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_stale()
        except BlockingIOError:
            os.close(lock)
            raise self._taken() from None
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
                raise self._taken()

    def _taken(self) -> ListenError:
        return ListenError(
            f"{self}: another daemon is listening there: stop it, or listen elsewhere."
        )


Listener = TcpListener | UnixListener
AddPort = Callable[[str], int]
"""A server's own method to listen on an address in gRPC's spelling, which is ours."""


@contextmanager
def claimed(listeners: Sequence[Listener]) -> Iterator[None]:
    """Claims them all. Raises one `ListenError` for all that can't be."""
    with ExitStack() as claims:
        problems = []
        for listener in listeners:
            try:
                claims.enter_context(listener.claimed())
            except ListenError as error:
                problems.append(str(error))
        if problems:
            raise ListenError("\n".join(problems))
        yield


def parse(
    address: str,
    engine: EngineName = "auto",
    *,
    shared: bool = False,
    tls: TlsFiles | None = None,
    role: str | None = None,
) -> Listener:
    """`unix:PATH`, `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError, saying what to write. A Unix
    socket has no use for TLS.
    """
    if address.startswith("unix:"):
        return _unix(address, engine, role or "unix")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"'{address}' is no address: write unix:PATH, HOST:PORT or [IPV6]:PORT,"
            " with a port from 1 to 65535"
        )
    host = host.removeprefix("[").removesuffix("]")
    return TcpListener(host, int(port), engine, shared, tls, role or "tcp")


def exposed(listener: Listener) -> str | None:
    """Why a listener can't be had as it is: anybody in the network could call it."""
    if isinstance(listener, UnixListener) or listener.is_local:
        return None
    if listener.tls is None:
        return (
            f"'{listener}' is not a loopback address, and there is no TLS to protect it: give"
            " --tls-cert, --tls-key and --tls-client-ca, or listen on a Unix socket or on 127.0.0.1"
        )
    if listener.tls.client_ca is None:
        return (
            f"'{listener}' is not a loopback address, and without client certificates whoever"
            " reaches it could call it: give --tls-client-ca, the CA of those who may"
        )
    return None


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


def _unix(address: str, engine: EngineName, role: str) -> UnixListener:
    path = socket_path(address)
    longest = max(path, _private_folder(path) / _UNNAMED, key=_bytes)
    if _bytes(longest) > _MAX_SOCKET_PATH:
        raise ValueError(
            f"'{address}' is too long for a socket: the kernel takes {_MAX_SOCKET_PATH} bytes"
        )
    return UnixListener(path, engine, role)
