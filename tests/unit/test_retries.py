"""Which failures are retried, and the exception after the last attempt."""

import time
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

import kekd
from kekd import _operations as operations
from kekd._transport.channel import Connector
from kekd._transport.endpoint import Endpoint
from kekd._transport.retries import Retries
from kekd_common.reasons import DOMAIN, Reason
from tests.unit.failed_call import FailedCall

NO_CONNECTION = "failed to connect to all addresses; last error: "


class RefusedCall(FailedCall):
    """A call that a daemon refused with a reason."""

    def trailing_metadata(self) -> tuple[Any, ...]:
        info = error_details_pb2.ErrorInfo(reason=Reason.RATE_LIMITED, domain=DOMAIN)
        status = status_pb2.Status()
        status.details.add().Pack(info)
        return (("grpc-status-details-bin", status.SerializeToString()),)


LOST = FailedCall(grpc.StatusCode.UNAVAILABLE, "Socket closed")


@pytest.fixture
def writing() -> Retries:
    connector = Connector(Endpoint("10.0.0.1:7535"))
    return Retries(operations.delete(None, "i", None), 1000, connector)


def test_ambiguous_write_is_not_retried_once_daemons_can_have_forgotten_it(
    writing: Retries, retries: Retries, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writing.delay_after(LOST) is not None
    assert retries.delay_after(LOST) is not None
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 45)
    assert writing.delay_after(LOST) is None
    assert "may have been applied" in str(writing.exception(LOST))
    assert retries.delay_after(LOST) is not None


def test_refused_retry_mentions_the_earlier_attempt(writing: Retries) -> None:
    refused = RefusedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, "too fast.")
    assert writing.delay_after(LOST) is not None
    assert writing.delay_after(refused) is None
    error = writing.exception(refused)
    assert isinstance(error, kekd.ResourceExhaustedError)
    assert str(error) == "too fast. (an earlier attempt may have been applied)"


def test_deadline_after_a_response_raises_the_response(retries: Retries) -> None:
    answered = FailedCall(grpc.StatusCode.UNAVAILABLE, "The store is away.")
    late = FailedCall(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert retries.delay_after(answered) is not None
    assert retries.delay_after(late) is None
    error = retries.exception(late)
    assert isinstance(error, kekd.UnavailableError)
    assert "The store is away." in str(error)


def test_refused_first_attempt_mentions_no_earlier_attempt(writing: Retries) -> None:
    refused = RefusedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, "too fast.")
    assert writing.delay_after(refused) is None
    assert str(writing.exception(refused)) == "too fast."


@pytest.fixture
def retries() -> Retries:
    connector = Connector(Endpoint("10.0.0.1:7535"))
    return Retries(operations.get(None, "i"), 100, connector)


def test_forbidden_socket_is_not_retried(retries: Retries) -> None:
    words = f"{NO_CONNECTION}unix:/x: Permission denied"
    assert retries.delay_after(FailedCall(grpc.StatusCode.UNAVAILABLE, words)) is None


def test_call_of_a_closed_client_is_not_retried(retries: Retries) -> None:
    assert retries.delay_after(FailedCall(grpc.StatusCode.CANCELLED, "Channel closed!")) is None
    assert retries.delay_after(FailedCall(grpc.StatusCode.CANCELLED, "CANCELLED")) is not None


def test_deadline_after_a_silent_connection_reports_the_silence(retries: Retries) -> None:
    words = f"{NO_CONNECTION}connection attempt timed out before receiving SETTINGS frame"
    assert retries.delay_after(FailedCall(grpc.StatusCode.UNAVAILABLE, words)) is not None
    late = FailedCall(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert retries.delay_after(late) is None
    error = retries.exception(late)
    assert isinstance(error, kekd.DeadlineExceededError)
    assert "accepts connections but doesn't respond" in str(error)


def test_error_of_one_address_outlasts_the_refusal_of_another() -> None:
    """The daemon listens on one of the addresses of localhost, and gRPC reports either."""
    refused = "{}: Failed to connect to remote host: Connection refused"
    rejected, other_refused, same_refused = (
        FailedCall(grpc.StatusCode.UNAVAILABLE, f"{NO_CONNECTION}UNKNOWN: {text}")
        for text in (
            "ipv4:127.0.0.1:7535: SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: OK",
            refused.format("ipv6:%5B::1%5D:7535"),
            refused.format("ipv4:127.0.0.1:7535"),
        )
    )
    retries = Retries(operations.get(None, "i"), 1000, Connector(Endpoint("localhost:7535")))
    for call, says in (
        (other_refused, "no connection; check that it is running"),
        (rejected, "no CA in ca (KEKD_CA) issued its certificate"),
        (other_refused, "no CA in ca (KEKD_CA) issued its certificate"),
        (same_refused, "no connection; check that it is running"),
    ):
        retries.delay_after(call)
        assert says in str(retries.exception(call))
