"""The runbook has an entry for everything that an operator can see."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kekd._transport import connection_error
from kekd_common.reasons import Reason

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
DOCTOR = [path.read_text() for path in ROOT.glob("client/kekd/_cli/doctor/*.py")]


def entries(section: str) -> dict[str, str]:
    """The text of each entry of a section, by its heading."""
    text = RUNBOOK.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL))


def doctor_checks() -> set[str]:
    """The checks that a finding can name, each without the store or slot that follows."""
    given = r"""(?:\b(?:ok|warning|failure)\(\s*|\b(?:check|name) = )f?"([^"{]+)"""
    return {check.strip() for source in DOCTOR for check in re.findall(given, source)}


def doctor_texts() -> Iterator[str]:
    """The fixed parts of what warnings and failures say, without their variable parts."""
    nodes = (node for source in DOCTOR for node in ast.walk(ast.parse(source)))
    for node in nodes:
        match node:
            case (
                ast.Call(func=ast.Name(id="warning" | "failure"), args=[_, text, *_])
                | ast.Call(func=ast.Attribute(attr="_broken" | "_broken_in_race"), args=[text, *_])
            ):
                yield from fixed_parts(text)


def fixed_parts(text: ast.expr) -> Iterator[str]:
    values = text.values if isinstance(text, ast.JoinedStr) else [text]
    for value in values:
        if isinstance(value, ast.Constant) and " " in (part := str(value.value).strip(" :,;")):
            yield part


def test_runbook_has_an_entry_for_each_reason() -> None:
    assert list(entries("Reasons")) == [*Reason]


def test_runbook_has_an_entry_for_each_alert() -> None:
    assert list(entries("Alerts")) == re.findall(r"- alert: (\w+)", ALERTS)


def test_runbook_has_an_entry_for_each_check_of_the_doctor() -> None:
    checks = doctor_checks()
    assert {"socket", "store", "slot", "daemon"} < checks
    assert checks <= entries("kekctl doctor").keys()


def test_runbook_quotes_each_finding_of_the_doctor() -> None:
    section = " ".join(entries("kekctl doctor").values())
    texts = list(doctor_texts())
    assert len(texts) > 20
    assert [text for text in texts if text not in section] == []


def test_runbook_has_an_entry_for_each_error_of_the_client() -> None:
    section = RUNBOOK.partition("\n## Errors without a reason\n")[2].partition("\n## ")[0]
    for _, text in (*connection_error._DESCRIPTIONS, *connection_error._OVER_TCP):
        assert re.split("[:;]", text)[0] in section


def test_index_has_a_link_to_each_entry() -> None:
    links = re.findall(
        r"\[([^]]+)\]\(#", RUNBOOK.partition("\n## Index\n")[2].partition("\n## ")[0]
    )
    checks = entries("kekctl doctor").keys() - {"Stores without conditional writes"}
    groups = [[*entries("Alerts")], [*entries("Reasons")], [*checks]]
    titles = [title for group in groups for title in sorted(group, key=str.lower)]
    assert links == [*titles, "Errors without a reason"]


@pytest.mark.parametrize("section", ["Reasons", "Alerts"])
def test_entry_has_a_meaning_and_an_action(section: str) -> None:
    for heading, text in entries(section).items():
        assert "**Means:** " in text, heading
        assert "**Do:**" in text, heading


def test_doctor_entry_has_a_meaning_and_an_action() -> None:
    for check in doctor_checks():
        assert "| you see | means | do |" in entries("kekctl doctor")[check], check
