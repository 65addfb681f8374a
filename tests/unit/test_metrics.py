"""The metrics are those that docs/observability.md lists."""

import re
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from kekd_server.observability.metrics import Metrics

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
        it._name + ("_total" if isinstance(it, Counter) else ""): it._labelnames for it in metrics
    }


def test_a_plain_number_is_followed() -> None:
    metrics, total = Metrics(), [5]
    counter = Counter("followed", "What a number is.", registry=metrics.registry)
    metrics.follow(lambda: total[-1], counter)
    for number in (5, 7, 7):
        total.append(number)
        metrics.sample()
    assert metrics.registry.get_sample_value("followed_total") == 7


def test_each_decision_is_counted_once_however_often_it_is_looked_at() -> None:
    metrics, decisions = Metrics(), {("read", "denied"): 2}
    metrics.follow_decisions(decisions)
    for _ in range(3):
        metrics.sample()
    decisions["read", "denied"] += 1
    metrics.sample()
    labels = {"method": "read", "decision": "denied"}
    assert metrics.registry.get_sample_value("kekd_decisions_total", labels) == 3
