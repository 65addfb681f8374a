"""The metrics are those that docs/observability.md lists, and plain numbers are added to them."""

import re
from itertools import product
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, values

from kekd_common.reasons import Reason
from kekd_proto.v1 import daemon_pb2, envelope_pb2
from kekd_server.observability import metrics as metrics_module
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.metrics_server import MultiprocessMetrics
from kekd_server.observability.sampler import Sampler
from kekd_server.storage import instrumented

OBSERVABILITY = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()
STORES: Final = ("disk:/var/lib/kekd/keystore", f"disk:/{'ü' * 200}", "s3:bucket/prefix")
LABEL_VALUES: Final = {
    "method": [  # as many as the policy has, or more
        method.name
        for file in (envelope_pb2, daemon_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ],
    "store": ["", *STORES],
    "code": [code.name for code in grpc.StatusCode],
    "operation": re.findall(r'_operation\("(.+?)"\)', Path(instrumented.__file__).read_text()),
    "outcome": ["ok", *Reason],
    "reason": ["calls", "share", "rate"],
    "decision": ["allowed", "denied"],
    "result": ["hit", "miss"],
    "file": [f"/etc/kekd/tls/a-folder-for-each-listener/{number}.crt" for number in range(40)],
    "what": ["certificates", "policy"],
    "version": ["1.0.0"],
    "python": ["3.14.10"],
    "grpc": ["1.100.0 with native"],
}


def test_observability_page_has_every_metric_and_its_labels() -> None:
    rows = re.findall(r"^\| (`kekd_[^|]+)\|([^|]*)\|", OBSERVABILITY, re.MULTILINE)
    documented = {
        name: tuple(re.findall(r"\w+", labels))
        for names, labels in rows
        for name in re.findall(r"\w+", names)
    }
    metrics: Any = Metrics().registry._collector_to_names
    assert documented == {
        metric._name + ("_total" if isinstance(metric, Counter) else ""): metric._labelnames
        for metric in metrics
    }


def test_bound_counter_grows_with_its_total() -> None:
    registry, sampler, total = CollectorRegistry(), Sampler(), [5]
    sampler.bind_counter(lambda: total[-1], Counter("bound", "A total.", registry=registry))
    for number in (5, 7, 7):
        total.append(number)
        sampler.sample()
    assert registry.get_sample_value("bound_total") == 7


def test_failed_update_is_logged_once_and_leaves_the_other_metrics_correct(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry, sampler, total = CollectorRegistry(), Sampler(), 0

    def update() -> None:
        if total != 3:
            raise RuntimeError("bug")

    sampler.on_sample(update)
    sampler.bind_counter(lambda: total, Counter("bound", "A total.", registry=registry))
    for total in range(1, 5):
        sampler.sample()
        assert registry.get_sample_value("bound_total") == total
    assert len(caplog.records) == 2


def test_decision_that_is_sampled_several_times_counts_once() -> None:
    metrics, decisions = Metrics(), {("read", "denied"): 2}
    metrics.decisions.bind(decisions)
    for _ in range(3):
        metrics.sample()
    decisions["read", "denied"] += 1
    metrics.sample()
    labels = {"method": "read", "decision": "denied"}
    assert metrics.registry.get_sample_value("kekd_decisions_total", labels) == 3


@pytest.fixture
def files_of_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which workers keep their metrics."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    return tmp_path


@pytest.mark.parametrize("worker", [None, 1])
def test_calls_count_as_if_each_was_observed_alone(
    worker: int | None, files_of_workers: Path
) -> None:
    metrics = Metrics(worker=worker)
    bounds = metrics_module._SECONDS
    single = Histogram("single", "Observations.", registry=metrics.registry, buckets=bounds)
    method = metrics.calls.method("GetEnvelope")
    for code in ("OK", "OK", "NOT_FOUND"):
        for seconds in (0.0, *bounds, *(bound * 1.01 for bound in bounds)):
            method.observe_call("memory", code, seconds)
            single.observe(seconds)
        metrics.sample()
    registry = MultiprocessMetrics(str(files_of_workers)).registry if worker else metrics.registry
    exported = {family.name: family.samples for family in registry.collect()}

    def histogram(name: str) -> dict[tuple[str, str], float]:
        return {
            (sample.name.removeprefix(name), sample.labels.get("le", "")): sample.value
            for sample in exported[name]
            if sample.labels.get("method", "GetEnvelope") == "GetEnvelope"
        }

    assert histogram("kekd_call_seconds") == pytest.approx(histogram("single"))
    calls = {sample.labels["code"]: sample.value for sample in exported["kekd_calls"]}
    assert calls == {"OK": 2 * (2 * len(bounds) + 1), "NOT_FOUND": 2 * len(bounds) + 1}


def test_files_of_a_worker_have_room_for_every_series(files_of_workers: Path) -> None:
    MultiprocessMetrics(str(files_of_workers)).reserve_files(1, STORES)
    reserved = sizes(files_of_workers)
    metrics: Any = Metrics(worker=1).registry._collector_to_names
    for metric in metrics:
        if metric._labelnames:
            for labels in product(*(LABEL_VALUES[label] for label in metric._labelnames)):
                metric.labels(*labels)
    assert sizes(files_of_workers) == reserved


def test_gauges_of_a_dead_worker_do_not_count_and_keep_their_files(files_of_workers: Path) -> None:
    multiprocess = MultiprocessMetrics(str(files_of_workers))
    multiprocess.reserve_files(2, STORES)
    reserved = sizes(files_of_workers)

    def run(worker: int) -> None:
        metrics = Metrics(worker=worker)
        metrics.calls.bind_running(lambda: 10 * worker)
        metrics.calls.shed.labels("calls").inc()
        metrics.sample()

    def running_and_shed() -> tuple[float | None, float | None]:
        value = multiprocess.registry.get_sample_value
        return value("kekd_calls_running"), value("kekd_calls_shed_total", {"reason": "calls"})

    run(1)
    run(2)
    assert running_and_shed() == (30, 2)
    multiprocess.mark_dead(2)
    assert running_and_shed() == (10, 2)
    multiprocess.mark_dead(1)
    assert running_and_shed() == (None, 2)
    run(2)
    assert running_and_shed() == (20, 3)
    assert sizes(files_of_workers) == reserved


def test_gauges_that_cannot_be_emptied_are_logged(
    files_of_workers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (files_of_workers / "gauge_livemin_1.db").mkdir()  # also root can't write it
    MultiprocessMetrics(str(files_of_workers)).mark_dead(1)
    assert caplog.messages == [
        "cannot empty the gauges of worker 1: Is a directory; they are wrong until it serves again"
    ]


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}
