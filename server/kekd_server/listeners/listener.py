"""A listener: an address that the daemon serves, over TCP or a Unix socket."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from kekd_server.listeners.engine import EngineName
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.tcp import TcpListener, TlsFiles
from kekd_server.listeners.unix import UnixListener, parse_unix

Listener: TypeAlias = TcpListener | UnixListener


@contextmanager
def acquire(listeners: Sequence[Listener]) -> Iterator[None]:
    """Claims them all. Raises one `ListenError` for all that can't be."""
    with ExitStack() as claims:
        problems = []
        for listener in listeners:
            try:
                claims.enter_context(listener.acquire())
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
        return parse_unix(address, engine, role or "unix")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"'{address}' is no address: write unix:PATH, HOST:PORT or [IPV6]:PORT,"
            " with a port from 1 to 65535"
        )
    host = host.removeprefix("[").removesuffix("]")
    return TcpListener(host, int(port), engine, shared, tls, role or "tcp")


def insecurity_reason(listener: Listener) -> str | None:
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
