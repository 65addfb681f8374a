"""The one place where the client meets gRPC: channels, deadlines, retries, errors."""

import json
import os
import re
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio
from grpc._cython import cygrpc

from kekd import errors
from kekd._operations import SERVICE, Operation
from kekd._transport import fork
from kekd._transport.reachability import accepts_connections
from kekd._transport.tls import Files, Material, Tls
from kekd_common.address import default_socket, grpc_target, host_of, is_loopback, socket_path
from kekd_common.reasons import DOMAIN

Result = TypeVar("Result")

ADDRESS_VARIABLE: Final = "KEKD_ADDRESS"
DEFAULT_TIMEOUT: Final = 10.0
MAX_TIMEOUT: Final = 10**9
"""Seconds, some thirty years: a deadline that is centuries away counts as passed for gRPC."""
WAIT_TIMEOUT: Final = 30.0
WAIT_INTERVAL: Final = 0.1
"""Seconds between two looks at a daemon that is starting."""
LAST_LOOK_TIMEOUT: Final = 1.0
"""Seconds beyond the end of a wait, for a distant or slow daemon to say why it doesn't serve."""
_PLAINTEXT: Final = (
    "{address} is called without TLS: anyone on the way can read and change everything; give tls="
    " (KEKD_CA, KEKD_CERT and KEKD_KEY)"
)
CLOSED: Final = "The client was closed while it was called."

_HOST_PORT: Final = re.compile(r"(\[[\da-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})", re.ASCII)
_MAX_PORT: Final = 2**16 - 1

# gRPC's own retries (https://github.com/grpc/proposal/blob/master/A6-client-retries.md), for the
# start of a stream. All other calls have those of `_retries`.
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE, "method": "WatchEnvelopes"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # The daemon is on this machine or near: a proxy for the web is never meant.
    ("grpc.enable_http_proxy", 0),
    # A page of a thousand of the largest envelopes that the daemon takes.
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name the time that one attempt to connect may take, TLS included.
    ("grpc.min_reconnect_backoff_ms", 5000),
    # A host may get another IP address at any time; 30 s are gRPC's own.
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    # Without it, a new client would get the dead connection of another one to the same address.
    ("grpc.use_local_subchannel_pool", 1),
)
_KEEPALIVE_INTERVAL: Final = 10.0
"""Seconds without a word from the daemon, after which the client pings it. A kekd daemon permits a
ping every 5 s, also without a call."""
_KEEPALIVE_TIMEOUT: Final = 5.0
"""Seconds that the daemon, or its kernel for what was sent to it, has to acknowledge anything.
Then the connection counts as dead, and the next attempt of a call opens another."""

_IS_IT_RUNNING: Final = "is it running there?"
_IS_SILENT: Final = "accepts connections and doesn't answer: it is stopped or overloaded"
_FELL_SILENT: Final = "it fell silent: is it stopped, or the network interrupted?"
_NO_PERMISSION: Final = "Permission denied"
_NO_SETTINGS: Final = "before receiving SETTINGS frame"
UNCERTAIN: Final = " It may have been done or not."
_TIMEOUT_ADVICE: Final = "try again with a longer timeout (kekctl: --timeout)."

_ADVICE: Final = (("ping timeout", _FELL_SILENT), ("keepalive timeout", _FELL_SILENT))
_TLS_ADVICE: Final = (
    ("certificate has expired", "its certificate has expired: renew it, where the daemon is."),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate isn't vouched for by the ca (KEKD_CA): is that the right one?",
    ),
    (
        "Hostname Verification",
        "its certificate is for another name: give that as server_name (KEKD_SERVER_NAME).",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "it speaks no TLS there: call without ca, cert and key (KEKD_CA, KEKD_CERT, KEKD_KEY).",
    ),
    (
        "Socket closed",
        "it hung up: does it speak TLS there, with a client CA that issued cert and key?",
    ),
)
"""What gRPC says of a failed connection, in its words of 1.85, and what to check. A daemon that
refuses a client's certificate only hangs up: with TLS 1.3 the client is through by then."""


def resolve(address: str | None) -> str:
    """The address to call: the one given, else `KEKD_ADDRESS`, else the per-user socket.

    `unix:PATH`, `unix:///PATH`, `HOST:PORT` and `[IPV6]:PORT` are understood, and `~` in a path.
    Raises ValueError.
    """
    address = address or os.environ.get(ADDRESS_VARIABLE) or f"unix:{default_socket()}"
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        if path and "," not in path and path.isprintable():
            return f"unix:{socket_path(address)}"
    elif (parts := _HOST_PORT.fullmatch(address)) and 0 < int(parts["port"]) <= _MAX_PORT:
        return address
    raise ValueError(
        f"'{address}' is no address: write unix:PATH, unix:///PATH, HOST:PORT or [IPV6]:PORT, the"
        f" path without commas, the port from 1 to {_MAX_PORT}."
    )


def checked_timeout(seconds: float) -> float:
    """The timeout given. Raises ValueError unless it is more than 0 and at most `MAX_TIMEOUT`."""
    if not 0 < seconds <= MAX_TIMEOUT:  # not the other way round: NaN compares false
        raise ValueError(
            f"{seconds} is no timeout: give a number of seconds, more than 0 and at most"
            f" {MAX_TIMEOUT}."
        )
    return seconds


def looks(
    timeout: float, call_timeout: float
) -> Iterator[tuple[float, tuple[type[errors.EnvelopeError], ...]]]:
    """The looks at a daemon that is starting, until `timeout` seconds are over; 0 is for one look,
    which has `call_timeout` seconds as any call has.

    Each is how many seconds it may take and which failures lead to another: none, for the last one.
    """
    if not timeout:
        yield call_timeout, ()
        return
    end = time.monotonic() + checked_timeout(timeout)
    while (remaining := end - time.monotonic()) > 0:
        yield max(remaining, WAIT_INTERVAL), (errors.UnavailableError, errors.DeadlineExceededError)
    yield min(LAST_LOOK_TIMEOUT, call_timeout), ()


def _is_local(address: str) -> bool:
    return address.startswith("unix:") or is_loopback(host_of(address))


class Dialer:
    """Makes the connections to a daemon, and says which of them are still what a new one would be.

    Raises ValueError for TLS that can't be had.
    """

    def __init__(self, address: str, tls: Tls | None) -> None:
        self.address = address
        tls = tls or Tls.of_environment()
        if tls and address.startswith("unix:"):
            raise ValueError(
                f"{address} is a Unix socket, which has no TLS: call HOST:PORT, or leave out ca,"
                " cert and key (KEKD_CA, KEKD_CERT, KEKD_KEY)."
            )
        self._files = Files(tls) if tls else None
        self._is_exposed = not tls and not _is_local(address)
        self.has_connected = False
        """Whether a daemon answered at this address before."""

    def dial(self, before: "Connection | None" = None) -> "Connection":
        """The connection from before, or another: if there was none, or if certificates were
        renewed since. Then the one from before ends when the last call lets go of it.
        """
        _check_fork()
        material = self._material()
        if before and before.material is material:
            return before
        channel = self._channel(grpc, material)
        connection = Connection(channel, material)
        if material:
            # gRPC would keep it open for ever.
            weakref.finalize(connection, channel.close).atexit = False
        return connection

    def dial_async(self, before: "Connection | None" = None) -> "Connection":
        """`dial` for asyncio, whose channels close themselves when nobody holds them."""
        _check_fork()
        material = self._material()
        if before and before.material is material:
            return before
        return Connection(self._channel(grpc.aio, material), material)

    def _material(self) -> Material | None:
        return self._files.current() if self._files else None

    def _channel(self, kind: Any, material: Material | None) -> Any:
        target = grpc_target(self.address)
        options = _OPTIONS + _keepalive_options()
        if self._is_exposed:
            self._is_exposed = False  # once is enough
            warnings.warn(_PLAINTEXT.format(address=self.address), stacklevel=2)
        if material is None:
            return kind.insecure_channel(target, options=options)
        name = (("grpc.ssl_target_name_override", material.server_name),)
        return kind.secure_channel(
            target,
            grpc.ssl_channel_credentials(material.ca, material.key, material.cert),
            options=options + (name if material.server_name else ()),
        )


def _check_fork() -> None:
    if fork.refusal:
        raise errors.UnavailableError(fork.refusal)


def _keepalive_options() -> tuple[tuple[str, int], ...]:
    timeout = round(_KEEPALIVE_TIMEOUT * 1000)
    return (
        ("grpc.keepalive_time_ms", round(_KEEPALIVE_INTERVAL * 1000)),
        ("grpc.keepalive_timeout_ms", timeout),
        # gRPC measures bandwidth by pings as well. Where such a one was lost, no other is sent, and
        # the connection would last for gRPC's own 60 s.
        ("grpc.http2.ping_timeout_ms", timeout),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    )


class Connection:
    """A channel of either kind to a daemon, and its methods."""

    def __init__(self, channel: Any, material: Material | None) -> None:
        self.channel = channel
        self.material = material
        self._methods: dict[str, Any] = {}
        fork.use_grpc(self, cygrpc.is_fork_support_enabled)

    def method(self, operation: Operation[Any]) -> Any:
        """What takes a request and a timeout and makes the call."""
        found = self._methods.get(operation.method)
        if found is None:
            found = self._methods[operation.method] = self.channel.unary_unary(
                operation.method,
                request_serializer=type(operation.request).SerializeToString,
                response_deserializer=operation.answer.FromString,
            )
        return found

    def stream(self, operation: Operation[Any]) -> Any:
        """The call, which goes on for as long as it is read."""
        method = self.channel.unary_stream(
            operation.method,
            request_serializer=type(operation.request).SerializeToString,
            response_deserializer=operation.answer.FromString,
        )
        return method(operation.request)


class PendingCall(Generic[Result]):
    """A call under way. Raises `UnavailableError` if the channel was closed."""

    def __init__(
        self, connection: Connection, operation: Operation[Result], timeout: float
    ) -> None:
        self._connection = connection  # held while the call lasts
        self._operation = operation
        try:
            self._call = connection.method(operation).future(operation.request, timeout=timeout)
        except ValueError:
            raise errors.UnavailableError(CLOSED) from None

    def result(self) -> Result | None:
        """Waits for it; None if it failed."""
        try:
            return self._operation.result(self._call.result())
        except grpc.RpcError:
            return None

    def cancel(self) -> None:
        self._call.cancel()


def translated(
    error: grpc.RpcError,
    address: str,
    operation: Operation[Any],
    *,
    may_be_applied: bool = True,
    unreachable: str = "",
) -> errors.EnvelopeError:
    """The exception that a failed call ends with. `may_be_applied`: whether a daemon may have
    begun it, in any of its attempts. `unreachable`: what gRPC said of an attempt that none has.
    """
    code, text = error.code().name, error.details() or ""
    if info := _info(error):
        return _kind(code, info.reason)(
            text,
            reason=info.reason,
            index_name=info.metadata["index_name"],
            store=info.metadata["store"],
        )
    if is_closed(text):
        return errors.UnavailableError(CLOSED)
    if code == "UNAVAILABLE" and is_forbidden(text):
        return errors.PermissionDeniedError(_forbidden(address))
    text = _told(code, text, address, unreachable)
    if operation.writes and may_be_applied:
        text += UNCERTAIN
    return _kind(code)(f"{text} [{code}]")


def _info(error: grpc.RpcError) -> Any:
    """What the daemon says besides, if it was the daemon that said it."""
    # Imported here, as they take long and most programs never need them.
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return info
    return None


def is_closed(text: str) -> bool:
    """Whether gRPC says that the caller closed the channel."""
    return text == "Channel closed!"


def is_forbidden(text: str) -> bool:
    """Whether gRPC says that the caller may not use a socket."""
    return text.startswith("failed to connect") and "unix:" in text and _NO_PERMISSION in text


def _told(code: str, text: str, address: str, unreachable: str) -> str:
    """What gRPC means, and what to do."""
    match code:
        case "UNAVAILABLE":
            return f"kekd at {address} {_failure_to_connect(address, text)}"
        case "DEADLINE_EXCEEDED":
            return f"kekd at {address} {_failure_to_answer(address, unreachable)}"
        case "CANCELLED":  # the daemon's word, also where its clock runs before ours
            return f"kekd at {address} gave the call up: it shuts down, or was out of time for it."
        case "NOT_FOUND":  # gRPC's health service has no words for it
            return (
                f"kekd at {address} has no service or store of that name: its log names its stores."
            )
        case _:
            return text


def _failure_to_connect(address: str, text: str) -> str:
    """What to check, by gRPC's own words."""
    if _NO_SETTINGS in text:  # the rest of it says that there is no connection
        return f"{_IS_SILENT}."
    advices = _ADVICE if address.startswith("unix:") else (*_ADVICE, *_TLS_ADVICE)
    advice = next((advice for words, advice in advices if words in text), _IS_IT_RUNNING)
    return f"can't be reached: {advice} ({text})"


def _failure_to_answer(address: str, unreachable: str) -> str:
    if _NO_SETTINGS in unreachable or accepts_connections(address):
        return f"{_IS_SILENT}; {_TIMEOUT_ADVICE}"
    return f"didn't answer in time: {_IS_IT_RUNNING} If so, {_TIMEOUT_ADVICE}"


def _forbidden(address: str) -> str:
    path = Path(address.removeprefix("unix:"))
    try:
        advice = f"join the group '{path.group()}', or ask its owner"
    except (OSError, KeyError):  # its folder is closed as well, or the group has no name here
        advice = "ask its owner to let you in"
    return f"kekd at {address} can't be called: you may not use this socket; {advice}"


def _kind(code: str, reason: str = "") -> type[errors.EnvelopeError]:
    """A reason that a newer daemon added is still known by its status."""
    return errors.BY_REASON.get(reason) or errors.BY_STATUS.get(code, errors.EnvelopeError)
