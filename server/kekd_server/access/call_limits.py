"""Limits on the calls of all callers, and of each one."""

import logging
import time
from typing import Final

from kekd_server.access.lease import Lease
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.errors import RateLimitedError, ShareTakenError, TooManyCallsError
from kekd_server.model.fair_share import FairShare
from kekd_server.model.token_bucket import TokenBucket
from kekd_server.observability.logs import LogThrottle
from kekd_server.observability.metrics import Metrics

_CALLS: Final = "calls"
_RATE: Final = "rate"
_SHARE: Final = "share"
_CALL_SHARE_FACTOR: Final = 16
"""Calls end soon, so a small reserve is enough for other callers."""
_SHARE_FACTOR: Final = 3
_ENTRIES_PER_CALL: Final = 10
_MIN_ENTRIES: Final = 4000
"""Enough for three of the largest batches of one identity, and one of another."""
_MAX_FULL_AT_BYTES: Final = 4 * 2**20
"""About 8,000 identities. The one that is dropped has been idle for the longest time."""

_log = logging.getLogger(__name__)


class CallLimits:
    """Refuses calls beyond the limits, before they are authorized."""

    def __init__(self, *, calls: int, rate: float | None, burst: int, metrics: Metrics) -> None:
        """`calls`: how many may run at once. `rate`: how many calls a second one identity may make
        on average; None is no limit. `burst`: how many it may make at once after a pause.
        """
        self._calls = FairShare(calls, factor=_CALL_SHARE_FACTOR)
        self._watches = FairShare(calls, factor=_SHARE_FACTOR)
        entry_capacity = max(_MIN_ENTRIES, calls * _ENTRIES_PER_CALL)
        self._entries = FairShare(entry_capacity, factor=_SHARE_FACTOR)
        self._shed = metrics.calls.shed
        # Export 0 first: Prometheus computes a rate from two values.
        for reason in (_CALLS, _RATE, _SHARE):
            self._shed.labels(reason)
        self._bucket = TokenBucket(1 / rate, burst) if rate else None
        self._full_at = BoundedCache[str, float](max_bytes=_MAX_FULL_AT_BYTES)
        self._throttle = LogThrottle()

    def check_calls(self, running: int) -> None:
        """Raises `TooManyCallsError`."""
        if running > self._calls.capacity:
            self._shed.labels(_CALLS).inc()
            raise TooManyCallsError(self._calls.capacity)

    def begin(self, identity: str, *, is_watch: bool) -> Lease:
        """Raises `TooManyCallsError`, and `ShareTakenError` if this identity uses its share."""
        share, what = (self._watches, "watches") if is_watch else (self._calls, "calls")
        self._take(share, what, identity, 1)
        return Lease(identity, share, self._take_entries)

    def admits(self, identity: str, running: int) -> bool:
        """Returns whether `check_calls`, `begin` and `check_rate` would raise no error for a call,
        and counts nothing.
        """
        return (
            running <= self._calls.capacity
            and self._calls.has_room(identity)
            and not (self._bucket and self._delay(self._bucket, identity))
        )

    def _take_entries(self, identity: str, count: int) -> FairShare:
        self._take(self._entries, "entries of batches", identity, count)
        self.charge(identity, count - 1)  # the call itself was charged before
        return self._entries

    def _take(self, share: FairShare, what: str, identity: str, count: int) -> None:
        if share.take(identity, count):
            return
        if share.is_full:
            self._shed.labels(_CALLS).inc()
            raise TooManyCallsError(share.capacity, what)
        self._shed.labels(_SHARE).inc()
        raise ShareTakenError(share.capacity, what)

    def check_rate(self, identity: str) -> None:
        """Raises `RateLimitedError`."""
        if not self._bucket:
            return
        if delay := self._delay(self._bucket, identity):
            self._shed.labels(_RATE).inc()
            if self._throttle.is_due(identity):  # a caller in a loop would fill the log
                _log.warning("%s exceeds max_rate", identity)
            raise RateLimitedError(delay)
        self.charge(identity, 1)

    def _delay(self, bucket: TokenBucket, identity: str) -> float:
        return bucket.delay(self._full_at.get(identity, 0.0), time.monotonic())

    def charge(self, identity: str, calls: int) -> None:
        """Counts calls. Beyond the rate, the identity's next calls are refused."""
        if self._bucket and calls > 0:
            full_at = self._bucket.take(self._full_at.get(identity, 0.0), time.monotonic(), calls)
            self._full_at.put(identity, full_at, size=entry_bytes(identity))
