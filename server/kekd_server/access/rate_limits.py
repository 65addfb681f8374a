"""How much is taken on at once, and from one caller."""

import logging
import time
from typing import Final

from kekd_server.access.lease import Lease
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.errors import RateLimitedError, ShareTakenError, TooManyCallsError
from kekd_server.model.fair_share import FairShare
from kekd_server.observability.logs import LogThrottle
from kekd_server.observability.metrics import Metrics

_CALLS: Final = "calls"
_RATE: Final = "rate"
_SHARE: Final = "share"
_CALLS_TIMES_FREE: Final = 16
"""Calls are over soon, so that a sixteenth is enough for others."""
_TIMES_FREE: Final = 3
_ENTRIES_A_CALL: Final = 10
_MIN_ENTRIES: Final = 4000
"""So that one identity has three of the largest batches, and another still one."""
_MAX_DUE_BYTES: Final = 4 * 2**20
"""Of some 8,000 identities; one that is dropped has paused for longer than all others."""

_log = logging.getLogger(__name__)


class Limits:
    """Refuses what is too much, before anything is done for it."""

    def __init__(self, *, calls: int, rate: float | None, burst: int, metrics: Metrics) -> None:
        """`calls` may run at once. `rate` is how many calls a second an identity may make in the
        long run, without a limit if None, and `burst` how many it may make at once after a pause.
        """
        self._calls = FairShare(calls, times_free=_CALLS_TIMES_FREE)
        self._watches = FairShare(calls, times_free=_TIMES_FREE)
        places = max(_MIN_ENTRIES, calls * _ENTRIES_A_CALL)
        self._entries = FairShare(places, times_free=_TIMES_FREE)
        self._shed = metrics.calls.shed
        # They begin at 0: a rate needs a first value.
        for reason in (_CALLS, _RATE, _SHARE):
            self._shed.labels(reason)
        self._interval = 1 / rate if rate else 0.0
        self._ahead = (burst - 1) * self._interval
        self._due = BoundedCache[str, float](max_bytes=_MAX_DUE_BYTES)
        self._seldom = LogThrottle()

    def check_calls(self, running: int) -> None:
        """Raises `TooManyCallsError`."""
        if running > self._calls.slots:
            self._shed.labels(_CALLS).inc()
            raise TooManyCallsError(self._calls.slots)

    def begin(self, identity: str, *, is_watch: bool) -> Lease:
        """Raises `TooManyCallsError` if this one has as many calls, or watches, as it may."""
        share, what = (self._watches, "watches") if is_watch else (self._calls, "calls")
        self._take(share, what, identity, 1)
        return Lease(identity, share, self._take_entries)

    def _take_entries(self, identity: str, count: int) -> FairShare:
        self._take(self._entries, "entries of batches", identity, count)
        self._charge(identity, count - 1)  # as the call itself was charged
        return self._entries

    def _take(self, share: FairShare, what: str, identity: str, count: int) -> None:
        if share.take(identity, count):
            return
        if share.is_full:
            self._shed.labels(_CALLS).inc()
            raise TooManyCallsError(share.slots, what)
        self._shed.labels(_SHARE).inc()
        raise ShareTakenError(share.slots, what)

    def check_rate(self, identity: str) -> None:
        """Raises `RateLimitedError`. A token bucket, kept as the moment when it is full again: the
        generic cell rate algorithm (ITU-T I.371, annex A).
        """
        if not self._interval:
            return
        now = time.monotonic()
        due = max(self._due.get(identity, now), now)
        early = due - now - self._ahead
        if early > self._interval / 2:  # not 0, which rounding would pass by
            self._shed.labels(_RATE).inc()
            if self._seldom.is_due(identity):  # or a caller that loops would fill the log
                _log.warning("%s makes more calls than it may (max_rate)", identity)
            raise RateLimitedError(early)
        self._due.put(identity, due + self._interval, size=entry_bytes(identity))

    def _charge(self, identity: str, calls: int) -> None:
        """Charges for the further calls of a batch. What exceeds the rate delays the identity's
        next calls.
        """
        if self._interval and calls > 0:
            due = max(self._due.get(identity) or 0.0, time.monotonic())
            self._due.put(identity, due + calls * self._interval, size=entry_bytes(identity))
