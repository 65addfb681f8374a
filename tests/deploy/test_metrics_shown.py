"""The dashboard and the alerts use only metrics that the daemon has, and all of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from kekd_server.observability.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
# Variables of Grafana, with any values.
VARIABLES = {"$__rate_interval": "5m", "$instance": "a"}
# Labels of Prometheus itself and of every scrape.
OWN_LABELS = {"instance", "job", "le"}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())[
        "panels"
    ]
    return [panel for panel in found if panel["type"] != "row"]


def shown() -> list[str]:
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    for name, value in VARIABLES.items():
        queries = [query.replace(name, value) for query in queries]
    return queries


def alarming() -> list[str]:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    return [rule["expr"] for rule in group["rules"]]


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Returns each metric of kekd in a query, with the labels that the query uses."""
    for name, matchers in re.findall(r"\b(kekd_\w+)(?:\{(.*?)\})?", query):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def grouped(query: str) -> set[str]:
    lists = re.findall(r"\bby \((.*?)\)", query)
    return {label.strip() for names in lists for label in names.split(",")}


@pytest.mark.parametrize("query", [*shown(), *alarming()])
def test_query_uses_existing_metrics_and_labels(query: str) -> None:
    promql_parser.parse(query)
    known = Metrics().registry._names_to_collectors
    labels = set(OWN_LABELS)
    for name, asked in selectors(query):
        assert name in known
        labels |= set(known[name]._labelnames)  # type: ignore[attr-defined]
        assert asked <= labels
    assert grouped(query) <= labels


def test_each_metric_is_shown() -> None:
    asked = {name for query in shown() for name, _ in selectors(query)}
    known = Metrics().registry._names_to_collectors
    ours = {collector for name, collector in known.items() if name.startswith("kekd_")}
    assert ours == {known[name] for name in asked}


def test_panels_do_not_overlap() -> None:
    taken = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels()
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
