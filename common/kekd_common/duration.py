"""Reads durations such as `30s`, `5m` and `1h30m`."""

import re
from typing import Final

_UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART: Final = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|[dhms])"


def parse_duration(text: str) -> float:
    """Returns the seconds of a duration. Raises ValueError."""
    if not re.fullmatch(f"({_PART})+", text):
        raise ValueError("not a duration; write one such as 45s, 30m, 1h30m or 90d")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
