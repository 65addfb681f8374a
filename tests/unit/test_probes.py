"""The answers to /livez and /readyz, in each state of the daemon."""

import time

import pytest
from prometheus_client import CollectorRegistry

from kekd_server.observability.metrics import Metrics
from kekd_server.observability.probes import EVENT_LOOP_TIMEOUT, Probes


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    for name, is_readable in (("disk:/a", True), ("s3:b", False)):
        metrics.stores.store(name).set_health(is_up=is_readable, is_readable=is_readable)
    return metrics


@pytest.fixture
def serving() -> Probes:
    probes = Probes()
    probes.report_serving()
    return probes


def status(probes: Probes, path: str, registry: CollectorRegistry) -> int | None:
    answer = probes.answer(path, registry, is_verbose=False)
    return answer.status if answer else None


def statuses(probes: Probes, metrics: Metrics) -> dict[str, int | None]:
    paths = ("/livez", "/readyz", "/readyz/disk:/a", "/readyz/s3:b")
    return {path: status(probes, path, metrics.registry) for path in paths}


def test_daemon_that_serves_is_live_and_ready_for_the_stores_that_answer(
    serving: Probes, metrics: Metrics
) -> None:
    assert statuses(serving, metrics) == {
        "/livez": 200,
        "/readyz": 200,
        "/readyz/disk:/a": 200,
        "/readyz/s3:b": 503,
    }


def test_daemon_that_starts_is_neither_live_nor_ready(metrics: Metrics) -> None:
    assert set(statuses(Probes(), metrics).values()) == {503}


def test_daemon_that_drains_is_live_but_not_ready(serving: Probes, metrics: Metrics) -> None:
    serving.report_draining()
    assert statuses(serving, metrics) == {
        "/livez": 200,
        "/readyz": 503,
        "/readyz/disk:/a": 503,
        "/readyz/s3:b": 503,
    }


def test_event_loop_that_hangs_is_neither_live_nor_ready_until_it_runs_again(
    serving: Probes, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.monotonic() + EVENT_LOOP_TIMEOUT + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert set(statuses(serving, metrics).values()) == {503}
    serving.beat()
    assert statuses(serving, metrics)["/livez"] == 200


def test_without_a_store_that_answers_only_livez_succeeds(
    serving: Probes, metrics: Metrics
) -> None:
    metrics.stores.store("disk:/a").set_health(is_up=False, is_readable=False)
    assert statuses(serving, metrics)["/livez"] == 200
    assert statuses(serving, metrics)["/readyz"] == 503


def test_store_that_was_never_checked_is_not_ready(serving: Probes) -> None:
    metrics = Metrics()
    metrics.stores.store("memory")
    assert status(serving, "/readyz/memory", metrics.registry) == 503


def test_percent_encoded_store_name_is_decoded(serving: Probes, metrics: Metrics) -> None:
    assert status(serving, "/readyz/disk%3A%2Fa", metrics.registry) == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/livez/", "/readyz/", "/readyz/c", "/readyzz"])
def test_other_paths_have_no_answer(serving: Probes, metrics: Metrics, path: str) -> None:
    assert status(serving, path, metrics.registry) is None


def test_answer_is_ok_and_lists_the_checks_if_asked_or_failed(
    serving: Probes, metrics: Metrics
) -> None:
    def text(path: str, *, is_verbose: bool) -> str:
        answer = serving.answer(path, metrics.registry, is_verbose=is_verbose)
        assert answer
        return answer.text

    assert text("/readyz", is_verbose=False) == "ok\n"
    assert text("/readyz", is_verbose=True) == (
        "[+]serving ok\n[+]event-loop ok\n[+]stores ok: 1 of 2 can be read\nreadyz check passed\n"
    )
    serving.report_draining()
    assert text("/readyz/s3:b", is_verbose=False) == (
        "[-]serving failed: kekd is draining\n[+]event-loop ok\n"
        "[-]s3:b failed: it cannot be read\nreadyz check failed\n"
    )
