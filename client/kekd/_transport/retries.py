"""When a call is tried again, and what its last failure means."""

import random
import time
from typing import Any, Final

import grpc

from kekd._operations import Operation
from kekd._transport import channel
from kekd.errors import EnvelopeError
from kekd_common.reasons import Reason

_INITIAL_BACKOFF: Final = 0.1
_MAX_BACKOFF: Final = 0.5
"""Short, so that a daemon which is up for a moment between two restarts is noticed."""
_BACKOFF_MULTIPLIER: Final = 3
_JITTER: Final = 0.2
"""The share by which a wait is longer or shorter, as in gRPC's own retries
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md)."""
_MAX_FIRST_ATTEMPTS: Final = 8
"""Some three seconds: how long a client tries to reach a daemon that it never reached before."""
_MAX_WRITE_RETRY_TIME: Final = 45.0
"""Seconds after its start in which a write that may have been applied is tried again. Daemons
recognise its attempts for 60 seconds."""
_DECIDED: Final = (Reason.ENVELOPE_EXISTS, Reason.ETAG_MISMATCH, Reason.OUTCOME_UNKNOWN)
"""What daemons answer only after they looked for earlier attempts."""
_RETRYABLE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""CANCELLED is what a daemon that shuts down may end calls with."""
_AMBIGUOUS: Final = (*_RETRYABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_UNSENT: Final = (
    "failed to connect to all addresses",
    "DNS resolution failed",
    "the daemon is shutting down",
)
"""What gRPC and kekd say of calls that no daemon has begun. Any other failure of a write may have
come after it was applied."""


class Retries:
    """The attempts of one call, until its timeout. A client that never reached its daemon gives up
    sooner. A write says in each further attempt that an earlier one may have been applied.
    """

    def __init__(self, operation: Operation[Any], timeout: float, dialer: channel.Dialer) -> None:
        self._operation = operation
        self._start = time.monotonic()
        self._end = self._start + timeout
        self._dialer = dialer
        self._attempts = 0
        self._backoff = _INITIAL_BACKOFF
        self._may_be_applied = self._earlier_may_be_applied = False
        self._unreachable = ""
        """Why the last attempt that no daemon has begun failed."""
        self._last_answer: grpc.RpcError | None = None
        """What the daemon answered last that was worth another attempt."""

    @property
    def remaining(self) -> float:
        """Seconds for the attempt that comes next."""
        return max(0.0, self._end - time.monotonic())

    def delay_after(self, error: grpc.RpcError) -> float | None:
        """How many seconds to wait before the next attempt; None if this was the last one."""
        self._attempts += 1
        code, text = error.code(), error.details() or ""
        is_sent = not any(words in text for words in _UNSENT)
        if is_sent and code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self._dialer.has_connected = True
        self._earlier_may_be_applied = self._may_be_applied
        delay = self._backoff * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  (no secret)
        self._may_be_applied |= is_sent and code in _AMBIGUOUS
        if not is_sent:
            self._unreachable = text
        is_final = channel.is_closed(text) or channel.is_forbidden(text)
        if is_final or code not in _RETRYABLE or self._is_over(delay):
            return None
        self._last_answer = error if is_sent else None
        self._backoff = min(_MAX_BACKOFF, self._backoff * _BACKOFF_MULTIPLIER)
        if self._may_be_applied and self._operation.writes:
            self._operation.request.is_retry = True  # type: ignore[attr-defined]
        return delay

    def exception(self, error: grpc.RpcError) -> EnvelopeError:
        """What the call ends with after its last attempt. Where time ran out in the midst of that,
        the daemon's answer to the one before says more.
        """
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and self._last_answer:
            error = self._last_answer
        failure = channel.translated(
            error,
            self._dialer.address,
            self._operation,
            may_be_applied=self._may_be_applied,
            unreachable=self._unreachable,
        )
        is_about_last = failure.reason and failure.reason not in _DECIDED
        if self._operation.writes and self._earlier_may_be_applied and is_about_last:
            failure.args = (f"{failure} An earlier attempt may have been applied.",)
        return failure

    def _is_over(self, delay: float) -> bool:
        if not self._dialer.has_connected and self._attempts == _MAX_FIRST_ATTEMPTS:
            return True
        next_attempt = time.monotonic() + delay
        if self._may_be_applied and self._operation.writes:
            return next_attempt >= min(self._end, self._start + _MAX_WRITE_RETRY_TIME)
        return next_attempt >= self._end
