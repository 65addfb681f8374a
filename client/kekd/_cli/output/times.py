"""Formats times and clock skews for humans."""

from datetime import datetime, timedelta


def format_timestamp(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def describe_skew(skew: timedelta) -> str:
    """Describes the daemon's clock, such as `7.0 s ahead of this machine`."""
    if not skew:
        return "in sync with this machine"
    seconds = skew.total_seconds()
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
