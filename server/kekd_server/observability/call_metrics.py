"""Metrics of calls."""

from bisect import bisect_left
from collections import Counter as Totals
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kekd_server.observability.sampler import Sampler


class CallMetrics:
    def __init__(
        self, registry: CollectorRegistry, sampler: Sampler, buckets: tuple[float, ...]
    ) -> None:
        self._sampler = sampler
        self._ended = Counter(
            "kekd_calls", "Calls that ended.", ["method", "store", "code"], registry=registry
        )
        self._seconds = BulkHistogram(
            "kekd_call_seconds",
            "Duration of a call.",
            ["method"],
            registry=registry,
            buckets=buckets,
        )
        self._running = Gauge(
            "kekd_calls_running",
            "Calls and watches in progress.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.shed = Counter(
            "kekd_calls_shed", "Calls refused by a limit.", ["reason"], registry=registry
        )
        self._bounds = buckets
        self._methods: dict[str, MethodMetrics] = {}

    def method(self, name: str) -> "MethodMetrics":
        """Returns the same object for all calls to one method."""
        if name not in self._methods:
            method = MethodMetrics(name, self._ended, self._seconds, self._bounds)
            self._sampler.on_sample(method.export)
            self._methods[name] = method
        return self._methods[name]

    def bind_running(self, running: Callable[[], int]) -> None:
        self._sampler.on_sample(lambda: self._running.set(running()))


class MethodMetrics:
    """Counts the calls to one method, in the thread of the event loop.

    A call changes plain numbers, and `export` adds them to the metrics: counting there would take
    five times as long, which is a tenth of a repeated get.
    """

    def __init__(
        self, name: str, ended: Counter, seconds: "BulkHistogram", bounds: Sequence[float]
    ) -> None:
        """`bounds` are those of the histogram."""
        self._name = name
        self._ended = ended
        self._seconds = seconds.labels(name)
        self._bounds = bounds
        self._reset()

    def _reset(self) -> None:
        self._totals: Totals[tuple[str, str]] = Totals()
        self._in_buckets = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe_call(self, store: str, code: str, seconds: float) -> None:
        """`code` is the name of the gRPC status. `store` is empty if the call selected none."""
        self._totals[store, code] += 1
        self._in_buckets[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def export(self) -> None:
        """Adds the calls since the last export to the metrics."""
        if not self._totals:
            return
        for labels, total in self._totals.items():
            self._ended.labels(self._name, *labels).inc(total)
        self._seconds.observe_many(self._in_buckets, self._sum)
        self._reset()


class BulkHistogram(Histogram):
    """A histogram that can add many observations at once. Those of prometheus_client add one, and
    other collectors don't work with several processes.
    """

    def observe_many(self, in_buckets: Sequence[int], total: float) -> None:
        """Adds observations, of which `in_buckets` has the number in each bucket and `total` the
        sum.
        """
        for bucket, number in zip(self._buckets, in_buckets, strict=True):
            bucket.inc(number)
        self._sum.inc(total)
