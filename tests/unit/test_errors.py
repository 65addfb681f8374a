"""The one table of errors, from a daemon's exception over the wire to a caller's exception."""

import inspect
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from kekd import _operations as operations
from kekd import errors as client_errors
from kekd._transport import channel
from kekd_common.reasons import STATUS, Reason
from kekd_server.model import errors as server_errors
from kekd_server.model.errors import KekdError
from tests.fixtures.failed_call import FailedCall

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"


def classes_of(module: Any, base: type) -> set[Any]:
    return {it for _, it in inspect.getmembers(module, inspect.isclass) if issubclass(it, base)} - {
        base
    }


def test_every_reason_has_a_status_and_a_class_on_both_sides() -> None:
    assert set(STATUS) == set(Reason)
    assert set(client_errors.BY_REASON) == set(Reason)
    raised = {kind.reason for kind in classes_of(server_errors, KekdError)}
    assert raised == set(Reason) - {Reason.INTERNAL}


def test_every_status_is_one_of_grpcs() -> None:
    codes = {code.name for code in grpc.StatusCode}
    assert set(STATUS.values()) <= codes
    assert set(client_errors.BY_STATUS) <= codes


def test_every_client_class_is_reached_and_exported() -> None:
    classes = classes_of(client_errors, kekd.EnvelopeError)
    reached = {*client_errors.BY_REASON.values(), *client_errors.BY_STATUS.values()}
    assert classes == reached
    assert {kind.__name__ for kind in classes} < set(kekd.__all__)


def test_every_client_class_is_drawn_in_the_docstring() -> None:
    drawn = set(re.findall(r"\w+Error\b", client_errors.__doc__ or "")) - {"ValueError"}
    assert drawn == {kind.__name__ for kind in classes_of(client_errors, ValueError)}


def test_every_daemon_class_is_drawn_in_the_docstring() -> None:
    drawn = set(re.findall(r"\w+Error\b", server_errors.__doc__ or ""))
    assert drawn == {kind.__name__ for kind in classes_of(server_errors, Exception)}


def test_the_documented_table_is_the_table() -> None:
    row = re.compile(r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \| `(\w+)` \|", re.MULTILINE)
    assert row.findall(PROTOCOL.read_text()) == [
        (reason.value, STATUS[reason], client_errors.BY_REASON[reason].__name__)
        for reason in Reason
    ]


@pytest.mark.external
@pytest.mark.parametrize("code", grpc.StatusCode)
def test_a_call_that_grpc_ended_is_an_envelope_error_of_its_status(code: grpc.StatusCode) -> None:
    error = channel.translated(FailedCall(code), "unix:/x", operations.get(None, "i"))
    assert isinstance(error, client_errors.BY_STATUS.get(code.name, kekd.EnvelopeError))
    assert code.name in str(error)


@pytest.mark.external
@pytest.mark.parametrize(
    ("code", "says"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "didn't answer in time"),
        (grpc.StatusCode.CANCELLED, "gave the call up"),
    ],
)
def test_of_writes_alone_it_is_said_that_they_may_have_been_done(
    code: grpc.StatusCode, says: str
) -> None:
    late = FailedCall(code)
    read, write = operations.get(None, "i"), operations.delete(None, "i", None)
    assert "may have been done" in str(channel.translated(late, "unix:/x", write))
    assert "may have been done" not in str(channel.translated(late, "unix:/x", read))
    assert says in str(channel.translated(late, "unix:/x", read))


NO_CONNECTION = "failed to connect to all addresses; last error: UNKNOWN: "


@pytest.mark.parametrize(
    ("address", "details", "says"),
    [
        (
            "10.0.0.1:7535",
            "connection attempt timed out before receiving SETTINGS frame",
            "kekd at 10.0.0.1:7535 accepts connections and doesn't answer: it is stopped or",
        ),
        ("unix:/x", "ping timeout", "it fell silent: is it stopped, or the network interrupted?"),
        ("unix:/x", "No such file or directory", "can't be reached: is it running there?"),
        ("10.0.0.1:7535", "Permission denied", "can't be reached: is it running there?"),
    ],
)
def test_lost_connection_says_what_to_check(address: str, details: str, says: str) -> None:
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, NO_CONNECTION + details)
    error = channel.translated(call, address, operations.get(None, "i"))
    assert isinstance(error, kekd.UnavailableError)
    assert says in str(error)


def test_silent_daemon_is_reported_without_a_failure_to_connect() -> None:
    words = f"{NO_CONNECTION}connection attempt timed out before receiving SETTINGS frame"
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, words)
    assert str(channel.translated(call, "10.0.0.1:7535", operations.get(None, "i"))) == (
        "kekd at 10.0.0.1:7535 accepts connections and doesn't answer: it is stopped or overloaded."
        " [UNAVAILABLE]"
    )


@pytest.mark.parametrize("exists", [True, False])
def test_socket_without_permission_says_so(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "kekd.sock"
    if exists:
        path.touch()
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, f"{NO_CONNECTION}unix:{path}: Permission denied")
    error = channel.translated(call, f"unix:{path}", operations.get(None, "i"))
    assert isinstance(error, kekd.PermissionDeniedError)
    assert "you may not use this socket" in str(error)
    assert (f"join the group '{path.parent.group()}'" in str(error)) is exists
