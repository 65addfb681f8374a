"""A hold, which protects the envelope of an index and its versions."""

from typing import NamedTuple


class Hold(NamedTuple):
    reason: str
    caller: str
    """The identity of the caller that placed it."""
    time_ns: int
    """Nanoseconds since the Unix epoch."""
