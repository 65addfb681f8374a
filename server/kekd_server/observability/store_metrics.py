"""Metrics of stores."""

from collections.abc import Callable
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kekd_server.observability.sampler import Sampler


class StoreMetricFamilies:
    """The metrics that have a label `store`."""

    def __init__(
        self, registry: CollectorRegistry, sampler: Sampler, buckets: tuple[float, ...]
    ) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self.sampler = sampler
        self.operations = counter(
            "kekd_store_operations",
            "Operations of a store, by outcome: 'ok' or the reason of the failure.",
            ["store", "operation", "outcome"],
        )
        self.operation_seconds = Histogram(
            "kekd_store_operation_seconds",
            "Duration of an operation.",
            ["store", "operation"],
            registry=registry,
            buckets=buckets,
        )
        self.retries = counter(
            "kekd_store_retries", "Requests to a store that were repeated.", ["store"]
        )
        self.up = gauge(
            "kekd_store_up",
            "1 if the store answers and can be written.",
            ["store"],
            multiprocess_mode="livemin",
        )
        self.readable = gauge(
            "kekd_store_readable", "1 if the store answers.", ["store"], multiprocess_mode="livemin"
        )
        self.cache_lookups = counter(
            "kekd_record_cache_lookups",
            "Lookups in the cache of records on disk, by result: 'hit' or 'miss'.",
            ["store", "result"],
        )
        self.watchers = gauge(
            "kekd_watchers", "Watches in progress.", ["store"], multiprocess_mode="livesum"
        )
        self.watches_dropped = counter(
            "kekd_watches_dropped", "Watches that kekd ended before it stopped.", ["store"]
        )
        self.corrupt_records = counter(
            "kekd_corrupt_records", "Reads of corrupt records.", ["store"]
        )

        self.history_versions = gauge(
            "kekd_history_versions",
            "Versions in the history of a store, at the last hourly scan.",
            ["store"],
            multiprocess_mode="livemax",
        )
        self.history_bytes = gauge(
            "kekd_history_bytes",
            "Bytes of the versions in the history, including the current envelopes.",
            ["store"],
            multiprocess_mode="livemax",
        )
        self.history_oldest = gauge(
            "kekd_history_oldest_timestamp_seconds",
            "Time of the oldest version since the Unix epoch; 0 if there is none.",
            ["store"],
            multiprocess_mode="livemax",
        )
        self.history_expired = counter(
            "kekd_history_expired", "Expired versions that were removed.", ["store"]
        )
        self.history_failures = counter(
            "kekd_history_failures",
            "Versions that were not kept, and failures of the background work on the history.",
            ["store"],
        )
        self.hold_breaches = counter(
            "kekd_hold_breaches", "Changes by other programs to indexes that are held.", ["store"]
        )

    def store(self, name: str) -> "StoreMetrics":
        return StoreMetrics(name, self)


class StoreMetrics:
    """Metrics of one store. Caches the results of `labels`, which is slower than counting."""

    def __init__(self, name: str, families: StoreMetricFamilies) -> None:
        self._sampler = families.sampler
        self._operations = cache(partial(families.operations.labels, name))
        self._seconds = cache(partial(families.operation_seconds.labels, name))
        self._lookups = partial(families.cache_lookups.labels, name)
        self._retries = families.retries.labels(name)
        self._up = families.up.labels(name)
        self._readable = families.readable.labels(name)
        self._watchers = families.watchers.labels(name)
        self._watches_dropped = families.watches_dropped.labels(name)
        self._corrupt_records = families.corrupt_records.labels(name)
        self._history_versions = families.history_versions.labels(name)
        self._history_bytes = families.history_bytes.labels(name)
        self._history_oldest = families.history_oldest.labels(name)
        self._history_expired = families.history_expired.labels(name)
        self._history_failures = families.history_failures.labels(name)
        self._hold_breaches = families.hold_breaches.labels(name)

    def observe_operation(self, operation: str, outcome: str, seconds: float) -> None:
        self.count_operation(operation, outcome)
        self._seconds(operation).observe(seconds)

    def count_operation(self, operation: str, outcome: str) -> None:
        self._operations(operation, outcome).inc()

    def count_retry(self) -> None:
        self._retries.inc()

    def set_health(self, *, is_up: bool, is_readable: bool) -> None:
        self._up.set(is_up)
        self._readable.set(is_readable)

    def bind_gets(self, total: Callable[[], int]) -> None:
        """Counts successful gets that aren't observed one by one."""
        self._sampler.bind_counter(total, self._operations("get", "ok"))

    def bind_cache_lookups(self, hits: Callable[[], int], misses: Callable[[], int]) -> None:
        self._sampler.bind_counter(hits, self._lookups("hit"))
        self._sampler.bind_counter(misses, self._lookups("miss"))

    def bind_corrupt_records(self, total: Callable[[], int]) -> None:
        self._sampler.bind_counter(total, self._corrupt_records)

    def bind_watches(self, watchers: Callable[[], int], dropped: Callable[[], int]) -> None:
        self._sampler.on_sample(lambda: self._watchers.set(watchers()))
        self._sampler.bind_counter(dropped, self._watches_dropped)

    def bind_history(
        self,
        totals: Callable[[], tuple[int, int, int]],
        *,
        expired: Callable[[], int],
        failures: Callable[[], int],
        breaches: Callable[[], int],
    ) -> None:
        """`totals`: versions, bytes, and the time of the oldest in nanoseconds."""
        self._sampler.on_sample(lambda: self._set_history(*totals()))
        self._sampler.bind_counter(expired, self._history_expired)
        self._sampler.bind_counter(failures, self._history_failures)
        self._sampler.bind_counter(breaches, self._hold_breaches)

    def _set_history(self, versions: int, size: int, oldest_ns: int) -> None:
        self._history_versions.set(versions)
        self._history_bytes.set(size)
        self._history_oldest.set(oldest_ns / 1e9)
