"""Updates metrics from plain values."""

from collections.abc import Callable

from prometheus_client import Counter


class Sampler:
    """Calls registered callbacks, once a second, that copy values into metrics."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

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

    def sample(self) -> None:
        for callback in self._callbacks:
            callback()
