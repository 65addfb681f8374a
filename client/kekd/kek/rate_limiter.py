"""Limits the rate of requests that threads make together."""

import threading
import time


class RateLimiter:
    """Allows a number of callers per second, evenly spaced. Thread-safe."""

    def __init__(self, per_second: float | None) -> None:
        """None disables the limit."""
        self._interval = 1 / per_second if per_second else 0.0
        self._next_turn = 0.0
        self._lock = threading.Lock()

    def wait(self) -> float:
        """Waits for the caller's turn. Returns the seconds waited."""
        if not self._interval:
            return 0.0
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next_turn)
            self._next_turn = turn + self._interval
        time.sleep(turn - now)
        return turn - now
