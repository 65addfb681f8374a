"""The size of a store's history."""

from typing import NamedTuple


class HistoryTotals(NamedTuple):
    versions: int = 0
    size: int = 0
    """Bytes of all versions, also of those that are still the record."""
    oldest_ns: int = 0
    """Time of the oldest version, in nanoseconds since the Unix epoch; 0 if there is none."""

    def add(self, time_ns: int, size: int) -> "HistoryTotals":
        oldest = min(self.oldest_ns or time_ns, time_ns)
        return HistoryTotals(self.versions + 1, self.size + size, oldest)
