"""Whether the times of a file or folder show every later change to it."""

import os
from typing import Final

_RACY_NS: Final = 2_000_000_000
"""The coarsest timestamps of any filesystem (FAT)."""


def is_settled(stat: os.stat_result, now: int) -> bool:
    """Returns whether what was read at `now` (nanoseconds since the epoch) may be cached by its
    times: it is on a disk of this machine, and a change since then would have later times.
    """
    is_old = max(stat.st_ctime_ns, stat.st_mtime_ns) < now - _RACY_NS
    return is_old and os.major(stat.st_dev) != 0
