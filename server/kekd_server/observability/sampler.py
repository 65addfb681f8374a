"""Updates metrics from plain values."""

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from prometheus_client import Counter

Labels = TypeVar("Labels", bound=tuple[str, ...])

_log = logging.getLogger(__name__)


class Sampler:
    """Copies plain values into metrics at each `sample`, by the registered callbacks."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._failing: set[Callable[[], None]] = set()

    def on_sample(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def bind_counter(self, total: Callable[[], int], counter: Counter) -> None:
        """Mirrors a plain int into a counter, so that the hot path only increments an int."""
        previous = 0

        def update() -> None:
            nonlocal previous
            current = total()
            counter.inc(current - previous)
            previous = current

        self.on_sample(update)

    def bind_counters(self, totals: Mapping[Labels, int], counter: Counter) -> None:
        """Mirrors plain ints by their labels. Labels may be added at any time."""
        previous: dict[Labels, int] = {}

        def update() -> None:
            for labels, total in totals.items():
                counter.labels(*labels).inc(total - previous.get(labels, 0))
                previous[labels] = total

        self.on_sample(update)

    def sample(self) -> None:
        """Runs every callback, also after one failed. Logs the first of consecutive failures."""
        for callback in self._callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001  (after any error, the other metrics must continue)
                if callback not in self._failing:
                    _log.exception("internal error: a metric isn't updated; the next try is soon")
                    self._failing.add(callback)
            else:
                self._failing.discard(callback)
