"""Translates gRPC statuses to kekd's exceptions."""

from pathlib import Path
from typing import Any, Final

import grpc

from kekd import errors
from kekd._transport.connection_error import (
    CHECK_DAEMON,
    NO_SETTINGS,
    UNRESPONSIVE,
    describe_connection_error,
    more_informative,
)
from kekd._transport.operation import MAYBE_APPLIED, Operation
from kekd._transport.reachability import accepts_connections
from kekd_common.reasons import DOMAIN

CLIENT_CLOSED: Final = (
    "call failed: the client was closed during the call; close it after its calls"
)

_PERMISSION_DENIED: Final = "Permission denied"

_RAISE_TIMEOUT: Final = "retry with a longer timeout (kekctl: --timeout)"


def to_exception(
    error: grpc.RpcError,
    address: str,
    operation: Operation[Any],
    *,
    may_be_applied: bool = True,
    connection_error: str = "",
) -> errors.EnvelopeError:
    """Returns the exception for a failed call.

    `may_be_applied`: whether the daemon may have begun any attempt of the call.
    `connection_error`: gRPC's most informative message for the attempts that no daemon has begun.
    """
    code, text = error.code().name, error.details() or ""
    if info := _error_info(error):
        return _error_class(code, info.reason)(
            text,
            reason=info.reason,
            index_name=info.metadata["index_name"],
            store=info.metadata["store"],
        )
    if is_channel_closed(text):
        return errors.UnavailableError(CLIENT_CLOSED)
    if code == "UNAVAILABLE" and is_socket_forbidden(text):
        return errors.PermissionDeniedError(_describe_forbidden_socket(address))
    text = _describe_status(code, text, address, connection_error)
    if operation.writes and may_be_applied:
        text += MAYBE_APPLIED
    return _error_class(code)(f"{text} [{code}]")


def is_channel_closed(text: str) -> bool:
    """Whether gRPC's message says that the caller closed the channel."""
    return text == "Channel closed!"


def is_socket_forbidden(text: str) -> bool:
    """Whether gRPC's message says that the caller has no permission to use a Unix socket."""
    return text.startswith("failed to connect") and "unix:" in text and _PERMISSION_DENIED in text


def _error_info(error: grpc.RpcError) -> Any:
    """Returns the ErrorInfo of the daemon, or None if gRPC itself ended the call."""
    # Imported here because most programs never need them and they import slowly.
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return info
    return None


def _error_class(code: str, reason: str = "") -> type[errors.EnvelopeError]:
    """Falls back to the status for a reason that a newer daemon added."""
    return errors.BY_REASON.get(reason) or errors.BY_STATUS.get(code, errors.EnvelopeError)


def _describe_status(code: str, text: str, address: str, connection_error: str) -> str:
    match code:
        case "UNAVAILABLE":
            text = more_informative(connection_error, text)
            return f"cannot reach kekd at {address}: {describe_connection_error(address, text)}"
        case "DEADLINE_EXCEEDED":
            return (
                f"call to kekd at {address} timed out: {_timeout_advice(address, connection_error)}"
            )
        case "CANCELLED":  # sent by the daemon, also if its clock is ahead of the client's
            return (
                f"kekd at {address} cancelled the call: it is shutting down, or the deadline"
                " passed; retry"
            )
        case "NOT_FOUND":  # sent without a message by gRPC's health service
            return (
                f"kekd at {address} has no service or store of that name; its log lists its stores"
            )
        case _:
            return text


def _timeout_advice(address: str, connection_error: str) -> str:
    if NO_SETTINGS in connection_error or accepts_connections(address):
        return f"{UNRESPONSIVE}; {_RAISE_TIMEOUT}"
    return f"{CHECK_DAEMON}, then {_RAISE_TIMEOUT}"


def _describe_forbidden_socket(address: str) -> str:
    path = Path(address.removeprefix("unix:"))
    try:
        advice = f"join the group '{path.group()}', or ask the socket's owner for access"
    except (OSError, KeyError):  # the folder isn't readable either, or the group has no name here
        advice = "ask the socket's owner for access"
    return f"cannot call kekd at {address}: no permission to use this socket; {advice}"
