"""The metrics are those that docs/observability.md lists."""

import re
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from kekd_server.observability.metrics import Metrics
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


def test_decision_that_is_sampled_several_times_counts_once() -> None:
    metrics, decisions = Metrics(), {("read", "denied"): 2}
    metrics.decisions.bind(decisions)
    for _ in range(3):
        metrics.sample()
    decisions["read", "denied"] += 1
    metrics.sample()
    labels = {"method": "read", "decision": "denied"}
    assert metrics.registry.get_sample_value("kekd_decisions_total", labels) == 3
