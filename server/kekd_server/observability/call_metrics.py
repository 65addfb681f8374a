"""Metrics of calls."""

from collections.abc import Callable
from functools import cache

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
        self._seconds = Histogram(
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

    def method(self, name: str) -> "MethodMetrics":
        return MethodMetrics(name, self._ended, self._seconds)

    def bind_running(self, running: Callable[[], int]) -> None:
        self._sampler.on_sample(lambda: self._running.set(running()))


class MethodMetrics:
    """Metrics of one method. Caches the results of `labels`, which is slower than counting."""

    def __init__(self, name: str, ended: Counter, seconds: Histogram) -> None:
        self._seconds = seconds.labels(name)
        self._ended = cache(lambda store, code: ended.labels(name, store, code))

    def observe_call(self, store: str, code: str, seconds: float) -> None:
        """`code` is the name of the gRPC status. `store` is empty if the call selected none."""
        self._ended(store, code).inc()
        self._seconds.observe(seconds)
