"""Opens gRPC channels to a daemon."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from grpc._cython import cygrpc

from kekd._transport import fork
from kekd._transport.address import is_local
from kekd._transport.endpoint import Endpoint
from kekd._transport.operation import SERVICE, Operation
from kekd.errors import UnavailableError
from kekd_common.address import grpc_target

if TYPE_CHECKING:
    from kekd._transport.tls import Tls
    from kekd._transport.tls_credentials import CredentialsLoader, TlsCredentials

# gRPC's own retries (https://github.com/grpc/proposal/blob/master/A6-client-retries.md), for the
# start of a stream only. `retries` repeats all other calls.
_SERVICE_CONFIG: Final = """{
  "methodConfig": [{
    "name": [{"service": "SERVICE", "method": "WatchEnvelopes"}],
    "retryPolicy": {
      "maxAttempts": 5,
      "initialBackoff": "0.1s",
      "maxBackoff": "2s",
      "backoffMultiplier": 3,
      "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]
    }
  }]
}""".replace("SERVICE", SERVICE)
_OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    # A web proxy in the environment isn't for a daemon on this machine or network.
    ("grpc.enable_http_proxy", 0),
    # Enough for a page of 1000 envelopes of the maximum size.
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    # As large as the daemon's largest page, so that it sends one without waiting for the client.
    ("grpc.http2.lookahead_bytes", 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name, the timeout of one attempt to connect, including the TLS handshake.
    ("grpc.min_reconnect_backoff_ms", 5000),
    # gRPC's default is 30 s, but a host can get another IP address at any time.
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    # Otherwise a new client would share the dead connection of another one to the same address.
    ("grpc.use_local_subchannel_pool", 1),
)
_KEEPALIVE_INTERVAL: Final = 10.0
"""Seconds without data from the daemon before the client pings it, also on connections without a
call. kekd allows a ping every second."""
_KEEPALIVE_TIMEOUT: Final = 5.0
"""Seconds in which the daemon must acknowledge a ping, or its kernel any data. After that the
connection counts as dead, and the next attempt of a call opens another."""

_PLAINTEXT_WARNING: Final = (
    "calling {address} without TLS: anyone on the network path can read and change the traffic;"
    " pass tls= (KEKD_CA, KEKD_CERT and KEKD_KEY)"
)


class Connection:
    """A blocking or asyncio channel to a daemon, with its methods."""

    def __init__(
        self, channel: Any, credentials: TlsCredentials | None, open_channel: Callable[[], Any]
    ) -> None:
        self.channel = channel
        self.credentials = credentials
        self._open_channel = open_channel
        self._stream_channels: weakref.WeakSet[Any] = weakref.WeakSet()
        self._process = os.getpid()
        self._methods: dict[str, Any] = {}
        fork.use_grpc(self, cygrpc.is_fork_support_enabled)

    def is_current(self, credentials: TlsCredentials | None) -> bool:
        """Whether calls with these credentials can use the connection. Older versions of gRPC close
        a parent's channels in a forked child.
        """
        return self.credentials is credentials and self._process == os.getpid()

    def method(self, operation: Operation[Any]) -> Any:
        """Returns a callable that takes a request and a timeout and makes the call."""
        found = self._methods.get(operation.method)
        if found is None:
            found = self._methods[operation.method] = self._bind(
                self.channel.unary_unary, operation
            )
        return found

    def stream(self, operation: Operation[Any]) -> Any:
        """Starts a streaming call, which lasts until it is cancelled."""
        call = self._bind(self.channel.unary_stream, operation)(operation.request)
        return call if hasattr(call, "cancel") else self._stream_alone(operation)

    def close(self) -> None:
        """Ends all calls of a blocking connection."""
        for channel in (self.channel, *self._stream_channels):
            channel.close()

    def _stream_alone(self, operation: Operation[Any]) -> _GeneratorCall:
        """Starts a streaming call on a channel of its own, for a stream that can't be cancelled."""
        channel = self._open_channel()
        self._stream_channels.add(channel)
        return _GeneratorCall(
            self._bind(channel.unary_stream, operation)(operation.request), channel
        )

    @staticmethod
    def _bind(make: Any, operation: Operation[Any]) -> Any:
        return make(
            operation.method,
            request_serializer=type(operation.request).SerializeToString,
            response_deserializer=operation.response_type.FromString,
        )


class _GeneratorCall:
    """A call that instrumentation has wrapped in a generator, which has no `cancel`.

    To cancel the call, this closes its channel.
    """

    def __init__(self, responses: Iterator[Any], channel: Any) -> None:
        self._responses = responses
        self._channel = channel

    def __next__(self) -> Any:
        return next(self._responses)

    def cancel(self) -> None:
        self._channel.close()


class Connector:
    """Opens connections. Reuses the current one until its TLS files change or the process forks.

    Raises ValueError if the TLS files can't be used.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.address = endpoint.address
        self._credentials_loader = _make_loader(endpoint.tls) if endpoint.tls else None
        self._warns_of_plaintext = not endpoint.tls and not is_local(self.address)
        self.has_connected = False
        """Whether a daemon has responded at this address before."""

    def connect(self, current: Connection | None = None) -> Connection:
        """Returns `current`, or a new connection if there is none, if its certificates were renewed
        or if another process opened it.

        If the certificates were renewed, `current` closes when its last call ends.
        """
        credentials = self._credentials()
        if current and current.is_current(credentials):
            return current
        open_channel = partial(self._open, grpc, credentials)
        channel = open_channel()
        connection = Connection(channel, credentials, open_channel)
        if credentials:
            # Otherwise gRPC never closes a connection that was replaced.
            weakref.finalize(connection, channel.close).atexit = False
        return connection

    def connect_async(self, current: Connection | None = None) -> Connection:
        """Does the same for asyncio, whose channels close when nothing refers to them."""
        credentials = self._credentials()
        if current and current.is_current(credentials):
            return current
        open_channel = partial(self._open, grpc.aio, credentials)
        return Connection(open_channel(), credentials, open_channel)

    def _credentials(self) -> TlsCredentials | None:
        if fork.refusal:
            raise UnavailableError(fork.refusal)
        return self._credentials_loader.current() if self._credentials_loader else None

    def _open(self, package: Any, credentials: TlsCredentials | None) -> Any:
        target = grpc_target(self.address)
        options = _OPTIONS + _keepalive_options()
        if self._warns_of_plaintext:
            self._warns_of_plaintext = False
            warnings.warn(_PLAINTEXT_WARNING.format(address=self.address), stacklevel=2)
        if credentials is None:
            return package.insecure_channel(target, options=options)
        name = (("grpc.ssl_target_name_override", credentials.server_name),)
        return package.secure_channel(
            target,
            grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.cert),
            options=options + (name if credentials.server_name else ()),
        )


def _make_loader(tls: Tls) -> CredentialsLoader:
    # Imported here because most clients of a daemon on the same machine use no TLS.
    from kekd._transport.tls_credentials import CredentialsLoader  # noqa: PLC0415

    return CredentialsLoader(tls)


def _keepalive_options() -> tuple[tuple[str, int], ...]:
    timeout = round(_KEEPALIVE_TIMEOUT * 1000)
    return (
        ("grpc.keepalive_time_ms", round(_KEEPALIVE_INTERVAL * 1000)),
        ("grpc.keepalive_timeout_ms", timeout),
        # gRPC also pings to measure bandwidth. If such a ping is lost, it sends no other, and the
        # connection would last for gRPC's default of 60 s.
        ("grpc.http2.ping_timeout_ms", timeout),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    )
