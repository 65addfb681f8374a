"""Failures to keep the history of a store up to date."""

import logging
from typing import Final

from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.observability.logs import LogThrottle

_log = logging.getLogger(__name__)


class HistoryFailures:
    """Counts all failures, and logs at most one a minute."""

    def __init__(self, store: str) -> None:
        self.total = 0
        self._store = store
        self._throttle: Final = LogThrottle()

    def report(self, why: str | Exception, name: IndexName | None = None) -> None:
        """`name`: the index whose version was not kept or removed, if it was one alone."""
        self.total += 1
        if not self._throttle.is_due("failure"):
            return
        whose = f"the history of index {name.value!r}" if name else "the history"
        is_defect = isinstance(why, Exception) and not isinstance(why, KekdError)
        _log.warning("%s: %s is not up to date: %s", self._store, whose, why, exc_info=is_defect)
