"""Bounds the audit lines for denials, so that a caller without rights can't fill the disk."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kekd_server.access.audit.audit_record import AuditRecord, format_lines
from kekd_server.model.token_bucket import TokenBucket

BURST: Final = 100
"""Lines that one identity gets at once, after a pause."""
LINE_INTERVAL: Final = 10.0
"""Seconds from one line to the next, on average."""
_LINES: Final = TokenBucket(LINE_INTERVAL, BURST)
SUMMARY_INTERVAL: Final = 60.0
"""Seconds until one line reports the number of denials without lines of their own."""
MAX_IDENTITIES: Final = 4096

Enqueue = Callable[[Sequence[str]], None]


@dataclass(slots=True)
class _Denials:
    full_at: float = 0.0
    """When the identity gets a whole burst again."""
    omitted: int = 0
    last_omitted: AuditRecord | None = None


class DenialThrottle:
    """Gives each denial of an identity a line, up to a rate. Once a minute, one line covers the
    denials beyond it: the last of them, with their count.
    """

    def __init__(self, enqueue: Enqueue) -> None:
        self._enqueue = enqueue
        # Not a dict, which scans past all deleted keys to find its first one.
        self._identities: OrderedDict[str, _Denials] = OrderedDict()

    def admit(self, record: AuditRecord) -> bool:
        """Returns whether to write this denial's line now; otherwise counts it for the next
        summary.
        """
        identity = record.decision.request.principal.identity
        denials = self._identities.get(identity) or self._add(identity)
        now = time.monotonic()
        if not _LINES.delay(denials.full_at, now):
            denials.full_at = _LINES.take(denials.full_at, now)
            return True
        if denials.last_omitted is None:
            asyncio.get_running_loop().call_later(SUMMARY_INTERVAL, self._summarize, identity)
        denials.omitted += record.denials
        denials.last_omitted = record
        return False

    def flush(self) -> None:
        """Writes all pending summaries."""
        for identity in list(self._identities):
            self._summarize(identity)

    def _add(self, identity: str) -> _Denials:
        while len(self._identities) >= MAX_IDENTITIES:
            oldest = next(iter(self._identities))
            self._summarize(oldest)
            del self._identities[oldest]
        denials = self._identities[identity] = _Denials()
        return denials

    def _summarize(self, identity: str) -> None:
        denials = self._identities.get(identity)
        if denials is None or denials.last_omitted is None:
            return
        denials.last_omitted.denials = denials.omitted
        self._enqueue(format_lines([denials.last_omitted], "denials"))
        denials.omitted, denials.last_omitted = 0, None
