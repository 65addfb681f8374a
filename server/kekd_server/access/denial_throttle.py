"""Which denials have an audit line of their own: a caller without rights mustn't fill the disk."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kekd_server.access.decision import Deed, lines

BURST: Final = 100
"""Lines of one identity at once, after a pause."""
LINE_INTERVAL: Final = 10.0
"""Seconds from one line to the next in the long run."""
SUMMARY_INTERVAL: Final = 60.0
"""Seconds after which a line says how many denials had none of their own."""
MAX_IDENTITIES: Final = 4096

Post = Callable[[Sequence[str]], None]


@dataclass(slots=True)
class _Denied:
    due: float = 0.0
    """When the identity may have its whole burst again."""
    left_out: int = 0
    last: Deed | None = None
    """Of those that were left out."""


class DenialThrottle:
    """Has the denials of each identity written one by one, up to a rate. Those beyond it have one
    line a minute: that of the last one, with their count.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._identities: dict[str, _Denied] = {}

    def admit(self, deed: Deed) -> bool:
        """Returns whether to write this deed's line now; otherwise counts it for the next
        summary.
        """
        identity = deed.caller.identity
        denied = self._identities.get(identity) or self._add(identity)
        now = time.monotonic()
        due = max(denied.due, now)
        if due - now <= (BURST - 1) * LINE_INTERVAL:
            denied.due = due + LINE_INTERVAL
            return True
        if denied.last is None:
            asyncio.get_running_loop().call_later(SUMMARY_INTERVAL, self._summarize, identity)
        denied.left_out += deed.count
        denied.last = deed
        return False

    def flush(self) -> None:
        """Writes what was counted."""
        for identity in list(self._identities):
            self._summarize(identity)

    def _add(self, identity: str) -> _Denied:
        while len(self._identities) >= MAX_IDENTITIES:
            oldest = next(iter(self._identities))
            self._summarize(oldest)
            del self._identities[oldest]
        denied = self._identities[identity] = _Denied()
        return denied

    def _summarize(self, identity: str) -> None:
        denied = self._identities.get(identity)
        if denied is None or denied.last is None:
            return
        denied.last.count = denied.left_out
        self._post(lines([denied.last], "denials"))
        denied.left_out, denied.last = 0, None
