"""The one place where the client meets gRPC: channels, deadlines, retries, errors."""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from kekd import errors
from kekd._operations import SERVICE, Operation
from kekd_proto.address import default_socket, grpc_target
from kekd_proto.reasons import DOMAIN

ADDRESS_VARIABLE: Final = "KEKD_ADDRESS"
DEFAULT_TIMEOUT: Final = 10.0

_HOST_PORT: Final = re.compile(r"(\[[\da-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})", re.ASCII)
_MAX_PORT: Final = 2**16 - 1

# gRPC's own retries (https://github.com/grpc/proposal/blob/master/A6-client-retries.md): with
# jitter, within the call's deadline, and told to the daemon, so that it knows a repeated create.
# The waits add up to some three seconds, in which a daemon restarts; five attempts are the most
# that gRPC makes.
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                # CANCELLED is what a daemon that shuts down ends calls with that it hasn't begun.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # The daemon is on this machine or near: a proxy for the web is never meant.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def resolve(address: str | None) -> str:
    """The address to call: the one given, else `KEKD_ADDRESS`, else the per-user socket.

    `unix:PATH`, `unix:///PATH`, `HOST:PORT` and `[IPV6]:PORT` are understood. Raises ValueError.
    """
    address = address or os.environ.get(ADDRESS_VARIABLE) or f"unix:{default_socket()}"
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        if path and "," not in path and path.isprintable():
            return f"unix:{Path(path).absolute()}"
    elif (parts := _HOST_PORT.fullmatch(address)) and 0 < int(parts["port"]) <= _MAX_PORT:
        return address
    raise ValueError(
        f"'{address}' is no address: write unix:PATH, unix:///PATH, HOST:PORT or [IPV6]:PORT, the"
        f" path without commas, the port from 1 to {_MAX_PORT}."
    )


def channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(grpc_target(address), options=_OPTIONS)


def aio_channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(grpc_target(address), options=_OPTIONS)


class Connection:
    """A channel of either kind, and its methods."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._methods: dict[str, Any] = {}

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


def translated(error: grpc.RpcError, address: str) -> errors.EnvelopeError:
    """The exception that a failed call ends with."""
    # Imported here, as they take long and most programs never need them.
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    code, text = error.code().name, error.details() or ""
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return _kind(code, info.reason)(
                        text,
                        reason=info.reason,
                        index_name=info.metadata["index_name"],
                        store=info.metadata["store"],
                    )
    if code == "UNAVAILABLE":
        text = f"kekd at {address} can't be reached: is it running there? ({text})"
    elif code == "DEADLINE_EXCEEDED":
        text = (
            f"kekd at {address} didn't answer in time: is it running there?"
            " A write may have been done or not."
        )
    return _kind(code)(f"{text} [{code}]")


def _kind(code: str, reason: str = "") -> type[errors.EnvelopeError]:
    """A reason that a newer daemon added is still known by its status."""
    return errors.BY_REASON.get(reason) or errors.BY_STATUS.get(code, errors.EnvelopeError)
