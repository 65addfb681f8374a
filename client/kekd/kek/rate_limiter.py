"""A rate that threads keep to together."""

import threading
import time


class RateLimiter:
    """Lets at most so many callers pass in a second, evenly spaced."""

    def __init__(self, per_second: float | None) -> None:
        """None for as many as come."""
        self._interval = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> float:
        """Returns when it is the caller's turn, and for how many seconds it waited."""
        if not self._interval:
            return 0.0
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        time.sleep(turn - now)
        return turn - now
