"""The table of errors: a daemon's exception, its reason and status, and the client's exception."""

import inspect
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from kekd import _operations as operations
from kekd import errors as client_errors
from kekd._transport.status import to_exception
from kekd_common.reasons import STATUS, Reason
from kekd_server.model import errors as server_errors
from kekd_server.model.errors import KekdError
from tests.unit.failed_call import FailedCall

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"


def classes_of(module: Any, base: type) -> set[Any]:
    members = (member for _, member in inspect.getmembers(module, inspect.isclass))
    return {member for member in members if issubclass(member, base)} - {base}


def test_every_reason_has_a_status_and_a_class_on_both_sides() -> None:
    assert set(STATUS) == set(Reason)
    assert set(client_errors.BY_REASON) == set(Reason)
    raised = {kind.reason for kind in classes_of(server_errors, KekdError)}
    assert raised == set(Reason) - {Reason.INTERNAL}


def test_every_status_exists_in_grpc() -> None:
    codes = {code.name for code in grpc.StatusCode}
    assert set(STATUS.values()) <= codes
    assert set(client_errors.BY_STATUS) <= codes


def test_every_client_class_is_used_and_exported() -> None:
    classes = classes_of(client_errors, kekd.EnvelopeError)
    reached = {*client_errors.BY_REASON.values(), *client_errors.BY_STATUS.values()}
    assert classes == reached
    assert {kind.__name__ for kind in classes} < set(kekd.__all__)


def test_docstring_lists_every_client_class() -> None:
    listed = set(re.findall(r"\w+Error\b", client_errors.__doc__ or "")) - {"ValueError"}
    assert listed == {kind.__name__ for kind in classes_of(client_errors, ValueError)}


def test_docstring_lists_every_daemon_class() -> None:
    listed = set(re.findall(r"\w+Error\b", server_errors.__doc__ or ""))
    assert listed == {kind.__name__ for kind in classes_of(server_errors, Exception)}


def test_documented_reasons_match_the_code() -> None:
    row = re.compile(r"^\| \[`([A-Z_]+)`\]\(.+\) \| `([A-Z_]+)` \| `(\w+)` \|", re.MULTILINE)
    assert row.findall(PROTOCOL.read_text()) == [
        (reason.value, STATUS[reason], client_errors.BY_REASON[reason].__name__)
        for reason in Reason
    ]


@pytest.mark.parametrize("reason", Reason)
def test_class_of_a_reason_is_that_of_its_status(reason: Reason) -> None:
    own = client_errors.BY_STATUS.get(STATUS[reason], kekd.EnvelopeError)
    kind = client_errors.BY_REASON[reason]
    assert issubclass(kind, own)
    assert not issubclass(kind, tuple({*client_errors.BY_STATUS.values()} - {own}))


@pytest.mark.external
@pytest.mark.parametrize("code", grpc.StatusCode)
def test_call_without_a_reason_raises_the_class_of_its_status(code: grpc.StatusCode) -> None:
    error = to_exception(FailedCall(code), "unix:/x", operations.get(None, "i"))
    assert isinstance(error, client_errors.BY_STATUS.get(code.name, kekd.EnvelopeError))
    assert code.name in str(error)


@pytest.mark.external
@pytest.mark.parametrize(
    ("code", "says"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "timed out"),
        (grpc.StatusCode.CANCELLED, "cancelled the call"),
    ],
)
def test_only_a_write_reports_an_unknown_outcome(code: grpc.StatusCode, says: str) -> None:
    late = FailedCall(code)
    read, write = operations.get(None, "i"), operations.delete(None, "i", None)
    assert "may have been applied" in str(to_exception(late, "unix:/x", write))
    assert "may have been applied" not in str(to_exception(late, "unix:/x", read))
    assert says in str(to_exception(late, "unix:/x", read))


NO_CONNECTION = "failed to connect to all addresses; last error: UNKNOWN: "
SSL = "Tls handshake failed: SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"


@pytest.mark.parametrize(
    ("address", "details", "says"),
    [
        (
            "10.0.0.1:7535",
            "connection attempt timed out before receiving SETTINGS frame",
            "cannot reach kekd at 10.0.0.1:7535: it accepts connections but doesn't respond, as",
        ),
        (
            "unix:/x",
            "ping timeout",
            "connection lost; check that it is running and the",
        ),
        ("unix:/x", "No such file or directory", "no connection; check that it is running"),
        (
            "h:1",
            "Permission denied",
            "no connection; check that it is running (UNKNOWN: Permission",
        ),
        ("h:1", f"{SSL}CERTIFICATE_VERIFY_FAILED: unable to get", "no CA in ca (KEKD_CA) issued"),
        (
            "h:1",
            f"{SSL}CERTIFICATE_VERIFY_FAILED: certificate is not yet valid: OK",
            "isn't valid yet",
        ),
        (
            "h:1",
            f"{SSL}CERTIFICATE_VERIFY_FAILED: certificate has expired",
            "certificate has expired",
        ),
        ("h:1", f"{SSL}TLSV1_ALERT_UNKNOWN_CA: Invalid", "it rejects the client certificate"),
        ("h:1", f"{SSL}SSLV3_ALERT_CERTIFICATE_EXPIRED: In", "it rejects the client certificate"),
        ("h:1", f"{SSL}TLSV1_ALERT_PROTOCOL_VERSION: Invalid", "the TLS handshake failed; check"),
        ("h:1", f"{SSL}WRONG_VERSION_NUMBER: Invalid", "it doesn't use TLS; omit ca"),
        ("h:1", "Peer name x is not in peer certificate", "its certificate is for another name"),
        ("h:1", "Handshake read failed (recvmsg", "it closed the connection during the TLS hand"),
        (
            "h:1",
            "(Trying to connect an http1.x server (HTTP",
            "it isn't kekd, but an HTTP/1 server",
        ),
        (
            "h:1",
            "errors resolving h:1: [field:hostname lookup",
            "no such host; check the host name",
        ),
    ],
)
def test_connection_error_names_what_to_check(address: str, details: str, says: str) -> None:
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, NO_CONNECTION + details)
    error = to_exception(call, address, operations.get(None, "i"))
    assert isinstance(error, kekd.UnavailableError)
    assert says in str(error)
    assert "SSL" not in str(error)


def test_unresponsive_daemon_is_reported_without_a_connection_error() -> None:
    words = f"{NO_CONNECTION}connection attempt timed out before receiving SETTINGS frame"
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, words)
    assert str(to_exception(call, "10.0.0.1:7535", operations.get(None, "i"))) == (
        "cannot reach kekd at 10.0.0.1:7535: it accepts connections but doesn't respond, as if"
        " stopped or overloaded; check it [UNAVAILABLE]"
    )


@pytest.mark.parametrize("exists", [True, False])
def test_forbidden_socket_raises_permission_denied(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "kekd.sock"
    if exists:
        path.touch()
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, f"{NO_CONNECTION}unix:{path}: Permission denied")
    error = to_exception(call, f"unix:{path}", operations.get(None, "i"))
    assert isinstance(error, kekd.PermissionDeniedError)
    assert "no permission to use this socket" in str(error)
    assert (f"join the group '{path.parent.group()}'" in str(error)) is exists
