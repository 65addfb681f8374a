"""Whether the daemon's clock and ours agree."""

from datetime import timedelta
from typing import Final

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd._status import apart

_APART: Final = timedelta(seconds=5)
"""Synchronised clocks are far closer."""
_TOO_FAR: Final = timedelta(minutes=5)
"""AWS mostly refuses a request that is older
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_aws-signing.html)."""


def check(lead: timedelta) -> Finding:
    text = f"the daemon's is {apart(lead)}"
    advice = "set both by NTP: AWS refuses requests of a clock that is 5 minutes off"
    if abs(lead) > _TOO_FAR:
        return failure("clock", text, advice)
    if abs(lead) > _APART:
        return warning("clock", text, advice)
    seconds = max(abs(lead).total_seconds(), 0.1)
    return ok("clock", f"the daemon's and ours are within {seconds:.1f} s")
