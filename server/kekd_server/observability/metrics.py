"""What is counted, and the names that it is scraped under."""

import platform
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    values,
)

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates

_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class Metrics:
    """Those of one process. Label values come from the settings and from the code, never from a
    caller: there would be no end of them.
    """

    def __init__(self, *, worker: int | None = None) -> None:
        """Those of a worker are kept in files that its supervisor adds up, which are found by
        PROMETHEUS_MULTIPROC_DIR. They carry its number, so that the next process of that number
        counts on.
        """
        # Both are the library's for all that is made afterwards. The second would double what is
        # scraped, for a time that workers don't have.
        values.ValueClass = (
            values.MutexValue if worker is None else values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]
        )
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._samples: list[Callable[[], None]] = []
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        seconds = partial(Histogram, registry=self.registry, buckets=_SECONDS)

        self._calls = counter("kekd_calls", "Calls that ended.", ["method", "store", "code"])
        self._call_seconds = seconds("kekd_call_seconds", "How long a call took.", ["method"])
        self.calls_running = gauge(
            "kekd_calls_running", "Calls and watches at this moment.", multiprocess_mode="livesum"
        )
        self.calls_shed = counter("kekd_calls_shed", "Calls refused by a limit.", ["reason"])
        self.decisions = counter("kekd_decisions", "Of the policy.", ["method", "decision"])

        self.store_operations = counter(
            "kekd_store_operations",
            "What a store was asked, and 'ok' or the reason of its failure.",
            ["store", "operation", "outcome"],
        )
        self.store_operation_seconds = seconds(
            "kekd_store_operation_seconds", "How long that took.", ["store", "operation"]
        )
        self.store_retries = counter(
            "kekd_store_retries", "Requests to a store that were repeated.", ["store"]
        )
        self.store_up = gauge(
            "kekd_store_up",
            "1 if the store answers, and can be written.",
            ["store"],
            multiprocess_mode="livemin",
        )
        self.store_readable = gauge(
            "kekd_store_readable",
            "1 if the store answers.",
            ["store"],
            multiprocess_mode="livemin",
        )
        self.record_cache_lookups = counter(
            "kekd_record_cache_lookups",
            "Records on disk that were known already, or had to be read.",
            ["store", "result"],
        )
        self.watchers = gauge(
            "kekd_watchers", "Watches at this moment.", ["store"], multiprocess_mode="livesum"
        )
        self.watches_dropped = counter(
            "kekd_watches_dropped", "Watches that kekd ended before its own end.", ["store"]
        )

        self.corrupt_records = counter(
            "kekd_corrupt_records", "Reads of records that are no envelopes.", ["store"]
        )

        self.audit_lines = counter("kekd_audit_lines", "Lines that were written.")
        self.audit_failures = counter("kekd_audit_failures", "Lines that couldn't be written.")
        self.audit_bytes = counter("kekd_audit_bytes", "Bytes written to the audit log.")
        self.audit_free_bytes = gauge(
            "kekd_audit_free_bytes",
            "Free bytes on the filesystem of the audit log.",
            ["file"],
            multiprocess_mode="livemin",
        )
        self.certificate_expiry = gauge(
            "kekd_certificate_expiry_timestamp_seconds",
            "When the certificates in use of a file end, in seconds since 1970.",
            ["file"],
            multiprocess_mode="livemin",
        )
        self.reload_failures = counter(
            "kekd_reload_failures", "New files that weren't taken into use.", ["what"]
        )
        build_info = gauge(
            "kekd_build_info",
            "Always 1; the labels tell.",
            ["version", "python", "grpc"],
            multiprocess_mode="livemax",
        )
        build_info.labels(version("kekd"), platform.python_version(), version("grpcio")).set(1)

    def follow_certificates(self, certificates: "Certificates") -> None:
        def sample() -> None:
            for file, ends in certificates.current.ends.items():
                self.certificate_expiry.labels(str(file)).set(ends.timestamp())

        self.sampled(sample)
        self.follow(lambda: certificates.refusals, self.reload_failures.labels("certificates"))

    def follow_decisions(self, decisions: Mapping[tuple[str, str], int]) -> None:
        """By method and decision, which come as they are made."""
        followed: set[tuple[str, str]] = set()

        def sample() -> None:
            for it in decisions.keys() - followed:
                followed.add(it)
                self.follow(partial(decisions.__getitem__, it), self.decisions.labels(*it))

        self.sampled(sample)

    def method(self, name: str) -> "MethodMetrics":
        return MethodMetrics(name, self._calls, self._call_seconds)

    def store(self, name: str) -> "StoreMetrics":
        return StoreMetrics(name, self)

    def sampled(self, sample: Callable[[], None]) -> None:
        """To be called now and then, for what is cheaper to look at than to be told of."""
        self._samples.append(sample)

    def follow(self, total: Callable[[], int], counter: Counter) -> None:
        """Has a counter grow as a plain number does, which costs nothing where it is counted."""
        before = 0

        def sample() -> None:
            nonlocal before
            now = total()
            counter.inc(now - before)
            before = now

        self.sampled(sample)

    def sample(self) -> None:
        for it in list(self._samples):  # some bring others
            it()


class MethodMetrics:
    """Of one method of the service. What `labels` finds is kept, as finding it takes longer than
    to count.
    """

    def __init__(self, name: str, calls: Counter, seconds: Histogram) -> None:
        self._seconds = seconds.labels(name)
        self._calls = cache(lambda store, code: calls.labels(name, store, code))

    def ended(self, store: str, code: str, seconds: float) -> None:
        """A call has, with a status code in gRPC's spelling. `store` is empty where none was
        selected.
        """
        self._calls(store, code).inc()
        self._seconds.observe(seconds)


class StoreMetrics:
    """Of one store."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds = cache(partial(metrics.store_operation_seconds.labels, name))
        self._operations = cache(partial(metrics.store_operations.labels, name))
        self._lookups = partial(metrics.record_cache_lookups.labels, name)
        self._retries = metrics.store_retries.labels(name)
        self._up = metrics.store_up.labels(name)
        self._readable = metrics.store_readable.labels(name)
        self._watchers = metrics.watchers.labels(name)
        self._cut = metrics.watches_dropped.labels(name)
        self._corrupt = metrics.corrupt_records.labels(name)

    def operated(self, operation: str, outcome: str, seconds: float) -> None:
        self.counted(operation, outcome)
        self._seconds(operation).observe(seconds)

    def counted(self, operation: str, outcome: str) -> None:
        self._operations(operation, outcome).inc()

    def follow_gets(self, total: Callable[[], int]) -> None:
        """Those that went well, and aren't reported one by one."""
        self._metrics.follow(total, self._operations("get", "ok"))

    def retried(self) -> None:
        self._retries.inc()

    def set_health(self, *, is_up: bool, is_readable: bool) -> None:
        self._up.set(is_up)
        self._readable.set(is_readable)

    def follow_lookups(self, hits: Callable[[], int], misses: Callable[[], int]) -> None:
        self._metrics.follow(hits, self._lookups("hit"))
        self._metrics.follow(misses, self._lookups("miss"))

    def follow_corrupt(self, total: Callable[[], int]) -> None:
        self._metrics.follow(total, self._corrupt)

    def follow_watches(self, watchers: Callable[[], int], cut: Callable[[], int]) -> None:
        self._metrics.sampled(lambda: self._watchers.set(watchers()))
        self._metrics.follow(cut, self._cut)
