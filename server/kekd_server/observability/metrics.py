"""The metrics of one process, by subject."""

import platform
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, values

from kekd_common.version import __version__
from kekd_server.observability.call_metrics import CallMetrics
from kekd_server.observability.sampler import Sampler
from kekd_server.observability.store_metrics import StoreMetricFamilies

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates

_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class Metrics:
    """Label values come from the settings and from the code, never from a client, so that their
    number is bounded.
    """

    def __init__(self, *, worker: int | None = None) -> None:
        """A worker keeps its metrics in files below PROMETHEUS_MULTIPROC_DIR. Its supervisor adds
        them up. The files carry the worker's number, so a restarted worker continues the counters.
        """
        _configure_library(worker)
        self.registry = CollectorRegistry()
        sampler = Sampler()
        self.sample = sampler.sample
        self.calls = CallMetrics(self.registry, sampler, _SECONDS)
        self.stores = StoreMetricFamilies(self.registry, sampler, _SECONDS)
        self.decisions = DecisionMetrics(self.registry, sampler)
        self.audit = AuditMetrics(self.registry)
        self.files = FileMetrics(self.registry, sampler)
        self._build_info = Gauge(
            "kekd_build_info",
            "Always 1; the labels are versions.",
            ["version", "python", "grpc"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def set_versions(self, *, grpc: str) -> None:
        self._build_info.labels(__version__, platform.python_version(), grpc).set(1)


class DecisionMetrics:
    def __init__(self, registry: CollectorRegistry, sampler: Sampler) -> None:
        self._sampler = sampler
        self._counter = Counter(
            "kekd_decisions", "Decisions of the policy.", ["method", "decision"], registry=registry
        )

    def bind(self, totals: Mapping[tuple[str, str], int]) -> None:
        """Mirrors totals by method and decision."""
        self._sampler.bind_counters(totals, self._counter)


class AuditMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self.lines = counter("kekd_audit_lines", "Lines written to the audit log.")
        self.failures = counter("kekd_audit_failures", "Lines that could not be written.")
        self.bytes = counter("kekd_audit_bytes", "Bytes written to the audit log.")
        self.free_bytes = Gauge(
            "kekd_audit_free_bytes",
            "Free bytes on the filesystem of the audit log.",
            ["file"],
            registry=registry,
            multiprocess_mode="livemin",
        )


class FileMetrics:
    """Metrics of the files that are reloaded: the policy and certificates."""

    def __init__(self, registry: CollectorRegistry, sampler: Sampler) -> None:
        self._sampler = sampler
        self._expiry = Gauge(
            "kekd_certificate_expiry_timestamp_seconds",
            "When the certificates in use expire, in seconds since 1970.",
            ["file"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._reload_failures = Counter(
            "kekd_reload_failures",
            "Changed files that were rejected.",
            ["what"],
            registry=registry,
        )

    def bind_policy(self, failed_reloads: Callable[[], int]) -> None:
        self._sampler.bind_counter(failed_reloads, self._reload_failures.labels("policy"))

    def bind_certificates(self, certificates: "Certificates") -> None:
        def set_expiry() -> None:
            for file, expiry in certificates.current.expirations.items():
                self._expiry.labels(str(file)).set(expiry.timestamp())

        self._sampler.on_sample(set_expiry)
        self._sampler.bind_counter(
            lambda: certificates.failed_reloads, self._reload_failures.labels("certificates")
        )


def _configure_library(worker: int | None) -> None:
    """Sets two options of prometheus_client that apply to all metrics made afterwards.

    `_created` series would double what is scraped, and workers don't have them.
    """
    values.ValueClass = (
        values.MutexValue if worker is None else values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]
    )
    disable_created_metrics()  # type: ignore[no-untyped-call]
