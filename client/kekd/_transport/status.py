"""Translates gRPC statuses to kekd's exceptions, and adds advice to gRPC's own messages."""

from pathlib import Path
from typing import Any, Final

import grpc

from kekd import errors
from kekd._transport.operation import MAYBE_APPLIED, Operation
from kekd._transport.reachability import accepts_connections
from kekd_common.reasons import DOMAIN

CLIENT_CLOSED: Final = (
    "call failed: the client was closed during the call; close it after its calls"
)

_PERMISSION_DENIED: Final = "Permission denied"
_NO_SETTINGS: Final = "before receiving SETTINGS frame"

_CHECK_DAEMON: Final = "no connection; check that it is running"
_CHECK_NETWORK: Final = "connection lost; check that it is running and the network works"
_UNRESPONSIVE: Final = "it accepts connections but doesn't respond, as if stopped or overloaded"
_RAISE_TIMEOUT: Final = "retry with a longer timeout (kekctl: --timeout)"

_ADVICE: Final = (("ping timeout", _CHECK_NETWORK), ("keepalive timeout", _CHECK_NETWORK))
_TLS_ADVICE: Final = (
    ("certificate has expired", "its certificate has expired; renew it on the daemon's machine"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "no CA in ca (KEKD_CA) issued its certificate; check that ca is the right file",
    ),
    (
        "Hostname Verification",
        "its certificate is for another name; pass that as server_name (KEKD_SERVER_NAME)",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "it doesn't use TLS; omit ca, cert and key (KEKD_CA, KEKD_CERT, KEKD_KEY)",
    ),
    (
        "Socket closed",
        "it closed the connection; if it uses TLS, pass ca (KEKD_CA) and a cert of its client CA",
    ),
)
"""Substrings of the messages of gRPC 1.85 for a failed connection, and what to check. A daemon that
rejects a client certificate only closes the connection: TLS 1.3 has no error for the client."""


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
    `connection_error`: gRPC's message for the last attempt that no daemon has begun.
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
            return f"cannot reach kekd at {address}: {_describe_connection_error(address, text)}"
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


def _describe_connection_error(address: str, text: str) -> str:
    if _NO_SETTINGS in text:  # the rest of the message says that there is no connection
        return f"{_UNRESPONSIVE}; check it"
    known = _ADVICE if address.startswith("unix:") else (*_ADVICE, *_TLS_ADVICE)
    advice = next((advice for words, advice in known if words in text), _CHECK_DAEMON)
    return f"{advice} ({text})"


def _timeout_advice(address: str, connection_error: str) -> str:
    if _NO_SETTINGS in connection_error or accepts_connections(address):
        return f"{_UNRESPONSIVE}; {_RAISE_TIMEOUT}"
    return f"{_CHECK_DAEMON}, then {_RAISE_TIMEOUT}"


def _describe_forbidden_socket(address: str) -> str:
    path = Path(address.removeprefix("unix:"))
    try:
        advice = f"join the group '{path.group()}', or ask the socket's owner for access"
    except (OSError, KeyError):  # the folder isn't readable either, or the group has no name here
        advice = "ask the socket's owner for access"
    return f"cannot call kekd at {address}: no permission to use this socket; {advice}"
