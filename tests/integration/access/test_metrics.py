"""The metrics of decisions, audit, limits and policy."""

from pathlib import Path

import pytest

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.metrics import StartScraped
from tests.patience import eventually

READER = {"name": "reader", "identities": "*", "methods": "read"}


def test_decisions_and_lines_of_the_audit_are_counted(
    start_scraped: StartScraped, tmp_path: Path
) -> None:
    audit = str(tmp_path / "audit.jsonl")
    scraped = start_scraped("--memory", "--audit", audit, config={"policy": [READER]})
    with kekd.Client(scraped.daemon.address) as client:
        for _ in range(3):
            with pytest.raises(kekd.PermissionDeniedError):
                client.push_index_kms(None, "i", BLOB)
        list(client.get_many_index_kms(None, ["a", "b"]))

    def decided(method: str, decision: str) -> float:
        return scraped.total("kekd_decisions_total", method=method, decision=decision)

    eventually(lambda: decided("push", "denied") == 3)
    eventually(lambda: decided("read", "allowed") == 2)
    assert decided("push", "allowed") == decided("read", "denied") == 0
    eventually(lambda: scraped.total("kekd_audit_lines_total") == 5)
    assert scraped.total("kekd_audit_failures_total") == 0


def test_watch_forbidden_by_a_new_policy_counts_as_denied_and_not_dropped(
    start_scraped: StartScraped,
) -> None:
    watcher = READER | {"methods": ["read", "watch"]}
    scraped = start_scraped("--memory", config={"policy": [watcher]})
    with kekd.Client(scraped.daemon.address) as client:
        events = client.watch_index_kms()
        next(events)
        scraped.daemon.configure({"policy": [READER]})
        with pytest.raises(kekd.PermissionDeniedError):
            next(events)
    denied = {"method": "watch", "decision": "denied"}
    eventually(lambda: scraped.total("kekd_decisions_total", **denied) == 1)
    assert scraped.total("kekd_watches_dropped_total") == 0


def test_damaged_records_are_counted_and_reported_alone_or_in_a_batch(
    start_scraped: StartScraped, tmp_path: Path
) -> None:
    scraped = start_scraped("--disk", str(tmp_path / "keystore"))
    for name in ("one", "two", "three"):
        (tmp_path / f"keystore/_catalog/config/{name}.kms.cat").write_bytes(b"damaged")
    with kekd.Client(scraped.daemon.address) as client:
        with pytest.raises(kekd.CorruptEnvelopeError):
            client.get_index_kms(None, "one")
        list(client.get_many_index_kms(None, ["two"]))
        list(client.scan_index_kms())
    eventually(lambda: scraped.total("kekd_corrupt_records_total") == 5)
    for name in ("one", "two", "three"):
        message = f"stored envelope of index '{name}' is corrupt"
        assert scraped.daemon.read_log().count(message) == 1


def test_lines_that_are_lost_are_counted(start_scraped: StartScraped) -> None:
    scraped = start_scraped("--memory", "--audit", "/dev/full")
    with kekd.Client(scraped.daemon.address) as client:
        for _ in range(4):
            list(client.list_index_kms())
    eventually(lambda: scraped.total("kekd_audit_failures_total") == 4)
    assert scraped.total("kekd_audit_lines_total") == 0


def test_calls_that_are_refused_early_are_counted(start_scraped: StartScraped) -> None:
    scraped = start_scraped("--memory", "--max-rate", "0.01", "--max-burst", "2")
    assert scraped.total("kekd_calls_shed_total", reason="rate") == 0
    with kekd.Client(scraped.daemon.address) as client:
        for _ in range(2):
            client.push_index_kms(None, "i", BLOB)
        for _ in range(3):
            with pytest.raises(kekd.ResourceExhaustedError):
                client.get_index_kms(None, "i")
    assert scraped.total("kekd_calls_shed_total", reason="rate") == 3
    eventually(lambda: scraped.total("kekd_calls_total", code="RESOURCE_EXHAUSTED", store="") == 3)


def test_rejected_policies_are_counted(start_scraped: StartScraped) -> None:
    scraped = start_scraped("--memory", config={"policy": [READER]})
    scraped.daemon.replace_config("policy: [")
    eventually(lambda: scraped.total("kekd_reload_failures_total", what="policy") == 1)
