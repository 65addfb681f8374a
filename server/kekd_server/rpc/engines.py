"""What speaks HTTP/2 on a listener: grpcio, or pygrpc-native, which does it in Rust.

Both are a `grpc.aio.Server`, and have the same services, interceptors and errors. Known limits of
pygrpc-native 0.5 (https://github.com/pygrpc/pygrpc-native): it reads a message whole, however long,
before it refuses it; plaintext only; one port a server; no limits on a connection; streams
from the caller, which only reflection has, go through a grpcio server behind it; a stop cuts
streams off without a status; and a write to a stream whose reader is behind takes a thread until it
is read or the stream is cut off. docs/decisions/0007-engines.md says why `auto` is grpcio.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Final, NamedTuple, cast

import grpc.aio

from kekd_common.limits import MAX_REQUEST_BYTES
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.tcp import TcpListener
from kekd_server.rpc import grpcio_server

_log = logging.getLogger(__name__)

MAX_STREAMS: Final = 100
"""Calls and watches at once on one connection; more wait in the client. So a connection that begins
calls without end, to reset them or not, leaves the others their share."""

_MAX_METADATA_BYTES: Final = 16 * 1024

_MIN_PING_INTERVAL: Final = 1.0
"""Seconds between two pings of a client, with calls or without. kekd's own pings every 10 s; gRPC's
default of 5 minutes would cut off any client that looks for dead connections."""

_HANDSHAKE_TIMEOUT: Final = 5.0
"""Seconds from a connection to its first HTTP/2 frame, TLS included."""

_ANSWER_SECONDS: Final = 20.0
"""How long the other side may take to say that it's there."""

_LAST_WORDS_SECONDS: Final = 0.1
"""For those who watch the health to be told, and for what was answered to be sent."""

_NEVER_SECONDS: Final = 1e9

_WAITING_WRITES: Final = 1024
"""Threads for writes that wait for their reader: as many as a connection has streams. The few of
asyncio's own would be taken by a few readers, and then every other and the stop would wait."""


class ConnectionLimits(NamedTuple):
    """How long connections last. gRPC adds a tenth of chance to an age, so that not all begin anew
    at once (https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md).
    """

    max_age: float | None = None
    """Seconds, after which a connection gets no more calls; those on it are finished."""
    keepalive: float | None = None
    """Seconds without a word, after which the other side is asked whether it's there."""


def make_server(
    listener: Listener, connection_limits: ConnectionLimits, *, max_connections: int
) -> grpc.aio.Server:
    """A server for one listener, without services or ports. Raises `ListenError`."""
    shared = isinstance(listener, TcpListener) and listener.shared
    options = (
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        # Without need, a second daemon could take the same port without either knowing.
        ("grpc.so_reuseport", int(shared)),
        # Of all headers of a call; beyond it gRPC refuses the call.
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        # It counts streams that are over but not yet freed, and so refuses calls of a client that
        # keeps to the limit. The limit alone holds up floods as well as both do.
        ("grpc.http.overload_protection", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", round(_MIN_PING_INTERVAL * 1e3)),
        ("grpc.server_handshake_timeout_ms", round(_HANDSHAKE_TIMEOUT * 1e3)),
        # Of its own pings, and of those of clients.
        ("grpc.keepalive_permit_without_calls", 1),
        *_connection_options(connection_limits),
    )
    if listener.engine != "native":
        # Beyond it, a connection is closed as soon as it is made.
        return _grpcio_server(
            (*options, ("grpc.max_allowed_incoming_connections", max_connections))
        )
    if isinstance(listener, TcpListener) and listener.tls:
        raise ListenError(
            f"{listener}: engine native has no TLS: leave the engine to be chosen, or take native"
            " for the Unix socket alone, in the file."
        )
    if find_spec("pygrpc_native") is None:
        raise ListenError(
            f"{listener}: engine native isn't installed: pip install 'kekd[native]', or leave the"
            " engine to be chosen."
        )
    import pygrpc_native.aio  # noqa: PLC0415  (an extra)

    threads = ThreadPoolExecutor(_WAITING_WRITES, thread_name_prefix="writes")
    asyncio.get_running_loop().set_default_executor(threads)
    return pygrpc_native.aio.server(options=options)


def _grpcio_server(options: grpcio_server.Options) -> grpc.aio.Server:
    if grpcio_server.is_supported():
        return cast("grpc.aio.Server", grpcio_server.GrpcioServer(options))
    _log.warning(
        "this version of grpcio is unknown to kekd: it serves, but a call to a path that is not"
        " UTF-8 cuts off every caller, and answers that nobody reads are kept"
    )
    return grpc.aio.server(options=options)


async def stop(server: grpc.aio.Server, finished: Awaitable[None]) -> None:
    """Takes no more connections, and ends what is there when `finished` is done: the streams of
    health and reflection have no end of their own.
    """
    if type(server).__module__.startswith("pygrpc_native"):
        # Its first stop can't be cut short by a second.
        await finished
        await server.stop(_LAST_WORDS_SECONDS)
        return
    # A grace that ran out just when the second stop is through would have it cancel the calls of a
    # server that is no more, and grpcio 1.85 dies of that.
    stopped = asyncio.create_task(server.stop(_NEVER_SECONDS))
    await finished
    # The last answers may have been made and not sent yet; health's streams stay as they are.
    await asyncio.wait([stopped], timeout=_LAST_WORDS_SECONDS)
    await server.stop(None)
    await stopped


def _connection_options(limits: ConnectionLimits) -> Iterator[tuple[str, int]]:
    if limits.max_age:
        yield "grpc.max_connection_age_ms", round(limits.max_age * 1e3)
    if limits.keepalive:
        yield "grpc.keepalive_time_ms", round(limits.keepalive * 1e3)
        yield "grpc.keepalive_timeout_ms", round(_ANSWER_SECONDS * 1e3)
