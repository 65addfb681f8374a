"""Failures to keep the history of a store up to date."""

import logging
from typing import Final

from kekd_server.observability.logs import LogThrottle

_log = logging.getLogger(__name__)


class HistoryFailures:
    """Counts all failures, and logs at most one a minute."""

    def __init__(self) -> None:
        self.total = 0
        self._throttle: Final = LogThrottle()

    def report(self, name: str, why: object) -> None:
        """Counts a failure to keep or remove a version of this index."""
        self.total += 1
        if self._throttle.is_due("failure"):
            _log.warning("the history of index %r is not up to date: %s", name, why)
