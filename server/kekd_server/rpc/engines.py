"""Makes the gRPC server of a listener, with one of two engines: grpcio, or pygrpc-native, which is
written in Rust.

Both are a `grpc.aio.Server` with the same services and errors. pygrpc-native 0.5
(https://github.com/pygrpc/pygrpc-native) has these limits:

- It has no TLS, one port for each server, and no limits on connections.
- It reads a whole message, of any length, before it refuses it.
- Streams from the caller, which only reflection has, go through a grpcio server behind it.
- A stop ends streams without a status.
- A write to a stream takes a thread until it is read or the stream ends.

docs/decisions/0007-engines.md explains why `auto` is grpcio.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, cast

import grpc.aio

from kekd_common.install import install_command
from kekd_common.limits import MAX_REQUEST_BYTES
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.tcp import TcpListener
from kekd_server.rpc import grpcio_server

_log = logging.getLogger(__name__)

MAX_STREAMS: Final = 100
"""Calls and watches at once on one connection. More wait in the client, so one connection can't use
the capacity of all others."""

_MAX_METADATA_BYTES: Final = 16 * 1024

_MIN_PING_INTERVAL: Final = 1.0
"""Seconds between two pings of a client, with calls or without. kekd's client pings every 10 s.
gRPC's default of 5 minutes would disconnect every client that detects dead connections."""

_HANDSHAKE_TIMEOUT: Final = 5.0
"""Seconds from a connection to its first HTTP/2 frame, TLS included."""

_PING_TIMEOUT: Final = 20.0
"""Seconds for the other side to answer a ping."""

_FLUSH_TIMEOUT: Final = 0.1
"""Seconds to send the last answers and health changes."""

_NO_TIMEOUT: Final = 1e9

_WRITE_THREADS: Final = 1024
"""Threads for writes that wait for their reader. asyncio's default has few threads: a few slow
readers would block all others, and the stop."""


class ConnectionLimits(NamedTuple):
    """How long connections last. gRPC varies an age by a tenth at random, so that not all clients
    reconnect at once (https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md).
    """

    max_age: float | None = None
    """Seconds after which a connection accepts no new calls. Calls in flight finish."""
    keepalive: float | None = None
    """Seconds of silence after which kekd pings the other side."""


def make_server(
    listener: Listener, connection_limits: ConnectionLimits, *, max_connections: int
) -> grpc.aio.Server:
    """Returns a server for one listener, without services or ports. Raises `ListenError`."""
    shared = isinstance(listener, TcpListener) and listener.shared
    options = (
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        # Only workers share a port. Else a second daemon could take it unnoticed.
        ("grpc.so_reuseport", int(shared)),
        # Of all headers of a call; beyond it gRPC refuses the call.
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        # It counts streams that have ended but aren't freed yet, and so refuses calls of clients
        # that respect the limit. The limit alone stops floods as well.
        ("grpc.http.overload_protection", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", round(_MIN_PING_INTERVAL * 1e3)),
        ("grpc.server_handshake_timeout_ms", round(_HANDSHAKE_TIMEOUT * 1e3)),
        # For pings of the server, and of clients.
        ("grpc.keepalive_permit_without_calls", 1),
        *_connection_options(connection_limits),
    )
    if listener.engine != "native":
        # Further connections are closed immediately.
        return _grpcio_server(
            (*options, ("grpc.max_allowed_incoming_connections", max_connections))
        )
    if isinstance(listener, TcpListener) and listener.tls:
        raise ListenError(
            f"{listener}: engine native has no TLS; omit the engine, or set it for the Unix socket"
            " alone, in the configuration file"
        )
    if find_spec("pygrpc_native") is None:
        raise ListenError(
            f"{listener}: engine native isn't installed; run {install_command('native')}, or omit"
            " the engine"
        )
    threads = ThreadPoolExecutor(_WRITE_THREADS, thread_name_prefix="writes")
    asyncio.get_running_loop().set_default_executor(threads)
    return _native_server(options)


def _native_server(options: Sequence[tuple[str, Any]]) -> grpc.aio.Server:
    import pygrpc_native.aio  # noqa: PLC0415  (an extra)

    from kekd_server.rpc import native_server  # noqa: PLC0415  (imports the extra)

    if native_server.is_supported():
        return native_server.NativeServer(options)
    return pygrpc_native.aio.server(options=options)


def _grpcio_server(options: grpcio_server.Options) -> grpc.aio.Server:
    if grpcio_server.is_supported():
        return cast("grpc.aio.Server", grpcio_server.GrpcioServer(options))
    _log.warning(
        "unsupported version of grpcio: a call to a path that is not UTF-8 ends every connection,"
        " and unread responses stay in memory; install the version that kekd requires"
    )
    return grpc.aio.server(options=options)


async def stop(server: grpc.aio.Server, idle: Awaitable[None]) -> None:
    """Accepts no more connections, and ends the remaining calls once `idle` is done: the streams of
    health and reflection don't end by themselves.
    """
    if any(kind.__module__.startswith("pygrpc_native") for kind in type(server).__mro__):
        # A second stop can't shorten its first.
        await idle
        await server.stop(_FLUSH_TIMEOUT)
        return
    # Without a timeout: if it ended just after the second stop, grpcio 1.85 would cancel calls of a
    # server that is gone, and crash.
    stopped = asyncio.create_task(server.stop(_NO_TIMEOUT))
    await idle
    # The last answers may not be sent yet. The streams of health continue.
    await asyncio.wait([stopped], timeout=_FLUSH_TIMEOUT)
    await server.stop(None)
    await stopped


def _connection_options(limits: ConnectionLimits) -> Iterator[tuple[str, int]]:
    if limits.max_age:
        yield "grpc.max_connection_age_ms", round(limits.max_age * 1e3)
    if limits.keepalive:
        yield "grpc.keepalive_time_ms", round(limits.keepalive * 1e3)
        yield "grpc.keepalive_timeout_ms", round(_PING_TIMEOUT * 1e3)
