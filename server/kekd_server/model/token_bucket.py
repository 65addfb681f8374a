"""Limits a rate by the generic cell rate algorithm (ITU-T I.371, annex A)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A bucket of `burst` tokens that gets one more every `interval` seconds.

    The state of a bucket is one number: the time at which it is full again.
    """

    interval: float
    burst: int

    def delay(self, full_at: float, now: float) -> float:
        """Returns the seconds until there is a token; 0 if there is one."""
        early = full_at - now - (self.burst - 1) * self.interval
        return early if early > self.interval / 2 else 0.0  # not 0, because of rounding

    def take(self, full_at: float, now: float, tokens: int = 1) -> float:
        """Returns when the bucket is full again, also if it has fewer tokens."""
        return max(full_at, now) + tokens * self.interval
