"""Metrics of calls."""

import collections
from bisect import bisect_left
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
        self._buckets = buckets
        self._methods: dict[str, MethodMetrics] = {}

    def method(self, name: str) -> "MethodMetrics":
        """Returns the same object for all calls to one method."""
        if name not in self._methods:
            method = MethodMetrics(name, self._ended, self._seconds, self._buckets)
            self._sampler.on_sample(method.export)
            self._methods[name] = method
        return self._methods[name]

    def bind_running(self, running: Callable[[], int]) -> None:
        self._sampler.on_sample(lambda: self._running.set(running()))


class MethodMetrics:
    """Counts the calls to one method, in the thread of the event loop.

    Calls increment plain numbers, and `export` adds them to prometheus_client's metrics, which
    take five times as long to increment. See docs/decisions/0010.
    """

    def __init__(
        self, name: str, ended: Counter, seconds: "BulkHistogram", buckets: Sequence[float]
    ) -> None:
        """`buckets`: the upper bounds of the histogram's."""
        self._name = name
        self._ended = ended
        self._seconds = seconds.labels(name)
        self._buckets = buckets
        self._reset()

    def _reset(self) -> None:
        self._totals = collections.Counter[tuple[str, str]]()
        self._bucket_counts = [0] * (len(self._buckets) + 1)
        self._sum = 0.0

    def observe_call(self, store: str, code: str, seconds: float) -> None:
        """`code` is the name of the gRPC status. `store` is empty if the call selected none."""
        self._totals[store, code] += 1
        self._bucket_counts[bisect_left(self._buckets, seconds)] += 1
        self._sum += seconds

    def export(self) -> None:
        """Adds the calls since the last export to the metrics."""
        totals, bucket_counts, seconds = self._totals, self._bucket_counts, self._sum
        if not totals:
            return
        self._reset()  # before an error, so that nothing counts twice
        for labels, total in totals.items():
            self._ended.labels(self._name, *labels).inc(total)
        self._seconds.observe_many(bucket_counts, seconds)


class BulkHistogram(Histogram):
    """Adds many observations at once, which prometheus_client's `Histogram` can't. Uses its private
    `_buckets` and `_sum`. See docs/decisions/0010.
    """

    def observe_many(self, bucket_counts: Sequence[int], total: float) -> None:
        """`bucket_counts`: the observations in each bucket, not cumulative. `total`: their sum."""
        for bucket, count in zip(self._buckets, bucket_counts, strict=True):
            bucket.inc(count)
        self._sum.inc(total)
