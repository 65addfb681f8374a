"""Formats the age of an envelope."""

import time
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_MIN_COUNT: Final = 2
"""An age of less than two units is shown in the next smaller one: 1h30m is `90m`."""


def format_age(created_at: int) -> str:
    """Returns an age such as `90m`, or `-` if the time is unknown or in the future."""
    seconds = int(time.time()) - created_at
    if not created_at or seconds < 0:
        return "-"
    return next(
        (f"{seconds // size}{unit}" for unit, size in _UNITS if seconds >= _MIN_COUNT * size),
        f"{seconds}s",
    )
