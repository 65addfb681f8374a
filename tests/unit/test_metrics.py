"""The metrics are those that docs/observability.md lists, and plain numbers are added to them."""

import errno
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, values

from kekd_server.observability import metrics as metrics_module
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.metrics_server import MultiprocessMetrics
from kekd_server.observability.sampler import Sampler

OBSERVABILITY = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()


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
    registry, sampler, total, is_full = CollectorRegistry(), Sampler(), [0], [True]

    def update() -> None:
        if is_full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")

    sampler.on_sample(update)
    sampler.bind_counter(lambda: total[0], Counter("bound", "A total.", registry=registry))
    for number, is_full[0] in enumerate((True, True, False, True)):
        total[0] = number
        sampler.sample()
        assert registry.get_sample_value("bound_total") == number
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
