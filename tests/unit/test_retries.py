"""Which failures are worth another attempt, and what the last one says."""

import grpc
import pytest

import kekd
from kekd import _operations as operations
from kekd import _rpc
from kekd._retries import Retries
from tests.fixtures.failed_call import FailedCall

NO_CONNECTION = "failed to connect to all addresses; last error: "


@pytest.fixture
def retries() -> Retries:
    dialer = _rpc.Dialer("10.0.0.1:7535", None)
    return Retries(operations.get(None, "i"), 100, dialer)


def test_socket_without_permission_is_not_tried_again(retries: Retries) -> None:
    words = f"{NO_CONNECTION}unix:/x: Permission denied"
    assert retries.delay_after(FailedCall(grpc.StatusCode.UNAVAILABLE, words)) is None


def test_call_of_a_client_that_was_closed_is_not_tried_again(retries: Retries) -> None:
    assert retries.delay_after(FailedCall(grpc.StatusCode.CANCELLED, "Channel closed!")) is None
    assert retries.delay_after(FailedCall(grpc.StatusCode.CANCELLED, "CANCELLED")) is not None


def test_deadline_after_a_silent_connection_says_that_it_is_silent(retries: Retries) -> None:
    words = f"{NO_CONNECTION}connection attempt timed out before receiving SETTINGS frame"
    assert retries.delay_after(FailedCall(grpc.StatusCode.UNAVAILABLE, words)) is not None
    late = FailedCall(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert retries.delay_after(late) is None
    error = retries.exception(late)
    assert isinstance(error, kekd.DeadlineExceededError)
    assert "accepts connections and doesn't answer" in str(error)
