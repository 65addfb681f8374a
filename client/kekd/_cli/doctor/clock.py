"""Compares the daemon's clock with this machine's."""

from datetime import timedelta
from typing import Final

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd._cli.output.times import describe_skew

_MAX_SYNCHRONIZED_SKEW: Final = timedelta(seconds=5)
"""Synchronized clocks are much closer."""
_MAX_AWS_SKEW: Final = timedelta(minutes=5)
"""AWS rejects most requests that are older
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_aws-signing.html)."""


def check(skew: timedelta) -> Finding:
    text = f"the daemon's clock is {describe_skew(skew)}"
    advice = "synchronize both with NTP: AWS rejects requests if the clock is off by 5 minutes"
    if abs(skew) > _MAX_AWS_SKEW:
        return failure("clock", text, advice)
    if abs(skew) > _MAX_SYNCHRONIZED_SKEW:
        return warning("clock", text, advice)
    seconds = max(abs(skew).total_seconds(), 0.1)
    return ok("clock", f"within {seconds:.1f} s of this machine's")
