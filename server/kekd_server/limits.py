"""How much is taken on at once, and from one caller."""

import logging
import time
from typing import Final

from kekd_server.bounded_cache import BoundedCache, entry_bytes
from kekd_server.errors import RateLimitedError, TooManyCallsError
from kekd_server.log import Seldom
from kekd_server.metrics import Metrics

_CALLS: Final = "calls"
_RATE: Final = "rate"
_MAX_DUE_BYTES: Final = 4 * 2**20
"""Of some 8,000 identities; one that is dropped has paused for longer than all others."""

_log = logging.getLogger(__name__)


class Limits:
    """Refuses what is too much, before anything is done for it."""

    def __init__(self, *, calls: int, rate: float | None, burst: int, metrics: Metrics) -> None:
        """`calls` may run at once. `rate` is how many calls a second an identity may make in the
        long run, without a limit if None, and `burst` how many it may make at once after a pause.
        """
        self._calls = calls
        self._shed = metrics.calls_shed
        for reason in (_CALLS, _RATE):  # they begin at 0, as a rate can be had only of what grows
            self._shed.labels(reason)
        self._interval = 1 / rate if rate else 0.0
        self._ahead = (burst - 1) * self._interval
        self._due = BoundedCache[str, float](max_bytes=_MAX_DUE_BYTES)
        self._seldom = Seldom()

    def check_calls(self, running: int) -> None:
        """Raises `TooManyCallsError`."""
        if running > self._calls:
            self._shed.labels(_CALLS).inc()
            raise TooManyCallsError(self._calls)

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
