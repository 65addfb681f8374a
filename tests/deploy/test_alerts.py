"""Prometheus accepts the rules, and each alert fires on a bad day only."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.debian import unpacked

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yaml"
RUNBOOK = ALERTS.parents[2] / "docs" / "runbook.md"

# promtool's notation for a series: a value for each minute of an hour.
OPERATIONS_OF_MEMORY = 'kekd_store_operations_total{store="memory",'
GOOD_DAY = {
    'up{job="kekd"}': "1x60",
    'kekd_build_info{version="1"}': "1x60",
    'kekd_store_up{store="memory"}': "1x60",
    'kekd_store_readable{store="memory"}': "1x60",
    OPERATIONS_OF_MEMORY + 'operation="put",outcome="ok"}': "0+600x60",
    OPERATIONS_OF_MEMORY + 'operation="put",outcome="ETAG_MISMATCH"}': "0+60x60",
    OPERATIONS_OF_MEMORY + 'operation="put",outcome="STORE_TIMEOUT"}': "0+1x60",
    OPERATIONS_OF_MEMORY + 'operation="check",outcome="STORE_TIMEOUT"}': "0+6x60",
    'kekd_calls_total{method="GetEnvelope",store="memory",code="OK"}': "0+600x60",
    'kekd_calls_total{method="GetEnvelope",store="memory",code="NOT_FOUND"}': "0+60x60",
    'kekd_calls_total{method="GetEnvelope",store="memory",code="UNAVAILABLE"}': "0+1x60",
    'kekd_call_seconds_bucket{method="GetEnvelope",le="0.1"}': "0+660x60",
    'kekd_call_seconds_bucket{method="GetEnvelope",le="+Inf"}': "0+661x60",
    'kekd_call_seconds_bucket{method="WatchEnvelopes",le="0.1"}': "0x60",
    'kekd_call_seconds_bucket{method="WatchEnvelopes",le="+Inf"}': "0+1x60",
    'kekd_decisions_total{method="read",decision="denied"}': "0+1x60",
    "kekd_audit_lines_total": "0+661x60",
    "kekd_audit_failures_total": "0x60",
    "kekd_audit_bytes_total": "0+264400x60",
    'kekd_audit_free_bytes{file="audit.jsonl"}': "9000000000-264400x60",
    'kekd_reload_failures_total{what="policy"}': "3x60",
    'kekd_calls_shed_total{reason="rate"}': "7x60",
    'kekd_store_retries_total{store="memory"}': "0+1x60",
    'kekd_watches_dropped_total{store="memory"}': "0x60",
    'kekd_corrupt_records_total{store="memory"}': "0x60",
    'kekd_history_failures_total{store="memory"}': "2x60",
    'kekd_hold_breaches_total{store="memory"}': "1x60",
    'kekd_certificate_expiry_timestamp_seconds{file="tls.crt"}': "2592000x60",
}
BAD_DAYS = {
    "KekdDown": {'up{job="kekd"}': "1x50 0x10"},
    "KekdStoreDown": {
        'kekd_store_up{store="memory"}': "1x50 0x10",
        'kekd_store_readable{store="memory"}': "1x50 0x10",
    },
    "KekdStoreNotWritable": {'kekd_store_up{store="memory"}': "1x50 0x10"},
    "KekdStoreErrors": {
        OPERATIONS_OF_MEMORY + 'operation="put",outcome="STORE_MISCONFIGURED"}': "0+60x60"
    },
    "KekdErrors": {
        'kekd_calls_total{method="GetEnvelope",store="memory",code="INTERNAL"}': "0+100x60"
    },
    "KekdCorruptEnvelope": {'kekd_corrupt_records_total{store="memory"}': "0x58 1 1"},
    "KekdSlow": {
        'kekd_call_seconds_bucket{method="GetEnvelope",le="1"}': "0+400x60",
        'kekd_call_seconds_bucket{method="GetEnvelope",le="0.1"}': "0+400x60",
        'kekd_call_seconds_bucket{method="GetEnvelope",le="2"}': "0+661x60",
    },
    "KekdLoadShedding": {'kekd_calls_shed_total{reason="rate"}': "0+1x60"},
    "KekdDenials": {'kekd_decisions_total{method="read",decision="denied"}': "0+60x60"},
    "KekdAuditFailing": {"kekd_audit_failures_total": "0x58 1 1"},
    "KekdAuditDiskFilling": {
        'kekd_audit_free_bytes{file="audit.jsonl"}': "9000000000-100000000x60"
    },
    "KekdAuditSilent": {"kekd_audit_lines_total": "0+661x10 6610x50"},
    "KekdCertificateExpiring": {
        'kekd_certificate_expiry_timestamp_seconds{file="a.crt"}': "86400x60"
    },
    "KekdReloadFailing": {'kekd_reload_failures_total{what="certificates"}': "_x58 1 1"},
    "KekdStoreRetries": {'kekd_store_retries_total{store="memory"}': "0+120x60"},
    "KekdWatchesDropped": {'kekd_watches_dropped_total{store="memory"}': "0+1x60"},
    "KekdHistoryFailing": {'kekd_history_failures_total{store="memory"}': "0+1x60"},
    "KekdHoldBreached": {'kekd_hold_breaches_total{store="memory"}': "1x58 2 2"},
}
# Every six hours for three months.
UNROTATED = {
    'kekd_calls_total{method="GetEnvelope",store="memory",code="OK"}': "0+3600x366",
    'kekd_calls_total{method="PushEnvelope",store="memory",code="OK"}': "12x366",
    "kekd_audit_lines_total": "0+3600x366",
    'kekd_build_info{version="1"}': "1x366",
}


def promtool(*arguments: str | Path) -> None:
    tool = unpacked("prometheus", "usr/bin/promtool")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def check_firing(
    folder: Path, series: dict[str, str], *alerts: str, interval: str, at: str
) -> None:
    """Checks that exactly these alerts fire at this time."""
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts]
    day = {
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": at,
                "exp_samples": expected,
            }
        ],
    }
    file = folder / "day.yaml"
    file.write_text(
        yaml.safe_dump(
            {"rule_files": [str(ALERTS)], "evaluation_interval": interval, "tests": [day]}
        )
    )
    promtool("test", "rules", file)


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_rules_are_accepted_by_prometheus() -> None:
    promtool("check", "rules", ALERTS)


def test_nothing_fires_on_a_good_day(tmp_path: Path) -> None:
    check_firing(tmp_path, GOOD_DAY, interval="1m", at="1h")


@pytest.mark.parametrize(("alert", "series"), BAD_DAYS.items(), ids=BAD_DAYS)
def test_each_alert_fires_on_its_day(tmp_path: Path, alert: str, series: dict[str, str]) -> None:
    check_firing(tmp_path, GOOD_DAY | series, alert, interval="1m", at="1h")


def test_quarter_without_a_rotation_alerts(tmp_path: Path) -> None:
    check_firing(tmp_path, UNROTATED, "KekdNothingRotated", interval="6h", at="2190h")


def test_quarter_with_a_rotation_does_not_alert(tmp_path: Path) -> None:
    rotated = UNROTATED | {
        'kekd_calls_total{method="PushEnvelope",store="memory",code="OK"}': "12x166 13x200"
    }
    check_firing(tmp_path, rotated, interval="6h", at="2190h")


def test_every_alert_is_tried() -> None:
    assert {rule["alert"] for rule in rules()} == {*BAD_DAYS, "KekdNothingRotated"}


def test_runbook_has_an_entry_for_each_alert() -> None:
    section = RUNBOOK.read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    titles = [line[4:] for line in section.splitlines() if line.startswith("### ")]
    assert titles == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
