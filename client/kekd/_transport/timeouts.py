"""The timeouts of calls, in seconds."""

import time
from collections.abc import Iterator
from typing import Final

DEFAULT_TIMEOUT: Final = 10.0
MAX_TIMEOUT: Final = 10**9
"""About 30 years. gRPC treats a deadline that is centuries away as expired."""
WAIT_TIMEOUT: Final = 30.0
WAIT_INTERVAL: Final = 0.1
"""Pause between two attempts to reach a daemon that is starting."""
_LAST_ATTEMPT_TIMEOUT: Final = 1.0
"""Extra time after the end of a wait, in which a slow daemon can report why it doesn't serve."""


def require_timeout(seconds: float, name: str = "timeout") -> float:
    """Returns `seconds`. Raises ValueError unless it is more than 0 and at most `MAX_TIMEOUT`."""
    if not 0 < seconds <= MAX_TIMEOUT:  # in this order, because NaN compares false
        raise ValueError(
            f"invalid {name} {seconds}; use a number of seconds, more than 0 and at most"
            f" {MAX_TIMEOUT}"
        )
    return seconds


def retry_schedule(timeout: float, call_timeout: float) -> Iterator[tuple[float, bool]]:
    """Yields the attempts to reach a daemon that is starting, until `timeout` has passed.

    Each is the attempt's own timeout, and whether it is the last. A `timeout` of 0 allows one
    attempt, which takes up to `call_timeout`.
    """
    if not timeout:
        yield call_timeout, True
        return
    end = time.monotonic() + require_timeout(timeout)
    while (remaining := end - time.monotonic()) > 0:
        yield max(remaining, WAIT_INTERVAL), False
    yield min(_LAST_ATTEMPT_TIMEOUT, call_timeout), True
