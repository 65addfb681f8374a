"""The runbook has an entry for everything that an operator can see."""

import re
from pathlib import Path

import pytest

from kekd_common.reasons import Reason

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
DOCTOR = [path.read_text() for path in ROOT.glob("client/kekd/**/*doctor*/*.py")]
DOCTOR += [path.read_text() for path in ROOT.glob("client/kekd/**/doctor.py")]


def entries(section: str) -> dict[str, str]:
    """The text of each entry of a section, by its heading."""
    text = RUNBOOK.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL))


def doctor_checks() -> set[str]:
    """The checks that a finding can name, each without the store or slot that follows."""
    given = r"""(?:\b(?:ok|warning|failure)\(\s*|\b(?:check|name) = )f?"([^"{]+)"""
    return {check.strip() for source in DOCTOR for check in re.findall(given, source)}


def test_runbook_has_an_entry_for_each_reason() -> None:
    assert list(entries("Reasons")) == [*Reason]


def test_runbook_has_an_entry_for_each_alert() -> None:
    assert list(entries("Alerts")) == re.findall(r"- alert: (\w+)", ALERTS)


def test_runbook_has_an_entry_for_each_check_of_the_doctor() -> None:
    checks = doctor_checks()
    assert {"socket", "store", "slot", "daemon"} < checks
    assert checks <= entries("kekctl doctor").keys()


@pytest.mark.parametrize("section", ["Reasons", "Alerts"])
def test_entry_has_a_meaning_and_an_action(section: str) -> None:
    for heading, text in entries(section).items():
        assert "**Means:** " in text, heading
        assert "**Do:**" in text, heading


def test_doctor_entry_has_a_meaning_and_an_action() -> None:
    for check in doctor_checks():
        assert "| you see | means | do |" in entries("kekctl doctor")[check], check
