"""Decides when a failed call is retried, and which exception it ends with."""

import time
from typing import Any, Final

import grpc

from kekd._transport import status
from kekd._transport.channel import Connector
from kekd._transport.connection_error import more_informative
from kekd._transport.operation import Operation
from kekd.errors import EnvelopeError
from kekd_common.reasons import Reason

_INITIAL_BACKOFF: Final = 0.1
_MAX_BACKOFF: Final = 0.5
"""Short, so that the client notices a daemon that is up only briefly between two restarts."""
_BACKOFF_MULTIPLIER: Final = 3
_JITTER: Final = 0.2
"""Each delay varies by up to this fraction, as in gRPC's own retries
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md)."""
_MAX_FIRST_ATTEMPTS: Final = 8
"""About three seconds: after that, a client that has never reached its daemon gives up."""
_MAX_WRITE_RETRY_TIME: Final = 45.0
"""Seconds after its start in which a write that may have been applied is retried. Daemons recognize
a retry for 60 seconds."""
_RETRY_AWARE_REASONS: Final = (
    Reason.ENVELOPE_EXISTS,
    Reason.ETAG_MISMATCH,
    Reason.OUTCOME_UNKNOWN,
)
"""Daemons return these only after they have checked for earlier attempts."""
_RETRYABLE_CODES: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""A daemon that shuts down may end calls with CANCELLED."""
_UNKNOWN_OUTCOME_CODES: Final = (*_RETRYABLE_CODES, grpc.StatusCode.DEADLINE_EXCEEDED)
"""After these, a write that was sent may have been applied."""
_NOT_BEGUN_MESSAGES: Final = (
    "failed to connect to all addresses",
    "DNS resolution failed",
    "the daemon is shutting down",
)
"""Messages of gRPC and kekd for calls that no daemon has begun. After any other failure, a write
may have been applied."""


class Retries:
    """Tracks the attempts of one call until its timeout.

    A client that has never reached its daemon gives up sooner. When a write may have been applied,
    each further attempt is marked as a retry.
    """

    # Class attributes, because nearly every call succeeds at once and changes none of them.
    _attempts = 0
    _backoff = _INITIAL_BACKOFF
    _may_be_applied = _earlier_may_be_applied = False
    _connection_error = ""
    """gRPC's most informative message for the attempts that no daemon has begun."""
    _last_response: grpc.RpcError | None = None
    """The daemon's response to the previous attempt, if it was retryable."""

    def __init__(self, operation: Operation[Any], timeout: float, connector: Connector) -> None:
        self._operation = operation
        self._start = time.monotonic()
        self._end = self._start + timeout
        self._connector = connector

    @property
    def remaining(self) -> float:
        """Seconds left for the next attempt."""
        return max(0.0, self._end - time.monotonic())

    def delay_after(self, error: grpc.RpcError) -> float | None:
        """Returns the seconds to wait before the next attempt, or None if there is none."""
        import random  # noqa: PLC0415  (nearly every call succeeds)

        self._attempts += 1
        code, text = error.code(), error.details() or ""
        is_begun = not any(message in text for message in _NOT_BEGUN_MESSAGES)
        if is_begun and code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self._connector.has_connected = True
        self._earlier_may_be_applied = self._may_be_applied
        delay = self._backoff * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  (no secret)
        self._may_be_applied |= is_begun and code in _UNKNOWN_OUTCOME_CODES
        if not is_begun:
            self._connection_error = more_informative(self._connection_error, text)
        is_final = status.is_channel_closed(text) or status.is_socket_forbidden(text)
        if is_final or code not in _RETRYABLE_CODES or self._is_over(delay):
            return None
        self._last_response = error if is_begun else None
        self._backoff = min(_MAX_BACKOFF, self._backoff * _BACKOFF_MULTIPLIER)
        if self._may_be_applied and self._operation.writes:
            self._operation.request.is_retry = True  # type: ignore[attr-defined]
        return delay

    def exception(self, error: grpc.RpcError) -> EnvelopeError:
        """Returns the exception that the call ends with after its last attempt.

        If the deadline passed during that attempt, the daemon's response to the previous attempt is
        more informative, and is used instead.
        """
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and self._last_response:
            error = self._last_response
        failure = status.to_exception(
            error,
            self._connector.address,
            self._operation,
            may_be_applied=self._may_be_applied,
            connection_error=self._connection_error,
        )
        is_about_last = failure.reason and failure.reason not in _RETRY_AWARE_REASONS
        if self._operation.writes and self._earlier_may_be_applied and is_about_last:
            failure.args = (f"{failure} (an earlier attempt may have been applied)",)
        return failure

    def _is_over(self, delay: float) -> bool:
        if not self._connector.has_connected and self._attempts == _MAX_FIRST_ATTEMPTS:
            return True
        next_attempt = time.monotonic() + delay
        if self._may_be_applied and self._operation.writes:
            return next_attempt >= min(self._end, self._start + _MAX_WRITE_RETRY_TIME)
        return next_attempt >= self._end
