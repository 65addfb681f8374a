"""A listener: an address on which the daemon serves, over TCP or a Unix socket."""

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
    """Reserves the addresses of all listeners. Raises one `ListenError` with all problems."""
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
    """Parses `unix:PATH`, `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError. A Unix socket ignores
    `tls`.
    """
    if address.startswith("unix:"):
        return parse_unix(address, engine, role or "unix")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"invalid address '{address}'; use unix:PATH, HOST:PORT or [IPV6]:PORT, with a port"
            " from 1 to 65535"
        )
    host = host.removeprefix("[").removesuffix("]")
    return TcpListener(host, int(port), engine, shared, tls, role or "tcp")


def insecurity_reason(listener: Listener) -> str | None:
    """Returns why the listener would let anyone in the network call the daemon, or None."""
    if isinstance(listener, UnixListener) or listener.is_local:
        return None
    if listener.tls is None:
        return (
            f"'{listener}' is not a loopback address, and has no TLS; set --tls-cert, --tls-key and"
            " --tls-client-ca, or listen on a Unix socket or on 127.0.0.1"
        )
    if listener.tls.client_ca is None:
        return (
            f"'{listener}' is not a loopback address, and accepts clients without a certificate;"
            " set --tls-client-ca to the CA of your clients"
        )
    return None
