"""Whether the daemon's clock and ours agree."""

from datetime import timedelta
from typing import Final

from kekd._doctor.finding import Finding, failure, ok, warning

_APART: Final = timedelta(seconds=5)
"""Synchronised clocks are far closer."""
_TOO_FAR: Final = timedelta(minutes=5)
"""AWS mostly refuses a request that is older
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_aws-signing.html)."""


def check(lead: timedelta) -> Finding:
    seconds = abs(lead).total_seconds()
    text = f"the daemon's is {seconds:.1f} s {'ahead of' if lead > timedelta() else 'behind'} ours"
    advice = "set both by NTP: AWS refuses requests of a clock that is 5 minutes off"
    if abs(lead) > _TOO_FAR:
        return failure("clock", text, advice)
    if abs(lead) > _APART:
        return warning("clock", text, advice)
    return ok("clock", f"the daemon's and ours are within {max(seconds, 0.1):.1f} s")
