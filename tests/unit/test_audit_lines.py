"""The reader of audit files shows or skips any line, and never fails."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kekd._cli.audit.command import _line
from kekd._cli.audit.record import AuditError, Entry, Query, decisions

ENTRY = {
    "time": "2026-01-31T12:00:00Z",
    "event": "end",
    "method": "read",
    "decision": "allowed",
    "duration_ms": 1.25,
}
EVERYTHING = Query(identity="*", code="*", since=datetime.min.replace(tzinfo=UTC))

zones = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(
    timezone
)
times = st.datetimes(timezones=st.none() | zones).map(datetime.isoformat) | st.text()
numbers = st.integers() | st.floats() | st.just(10**400)
scalars = st.none() | st.booleans() | numbers | st.text(st.characters(codec=None)) | times
values = scalars | st.lists(scalars, max_size=2)
names = st.sampled_from([field.name for field in fields(Entry)] + ["newer"])


def shown(line: bytes) -> list[str]:
    try:
        entry = Entry.parse(line)
    except AuditError:
        return []
    EVERYTHING.matches(entry)
    return [
        text
        for decision in decisions([entry])
        for text in (_line(decision), json.dumps(decision.content))
    ]


@given(st.dictionaries(names, values, max_size=3))
def test_any_values_of_the_fields_are_shown_or_skipped(content: dict[str, Any]) -> None:
    texts = shown(json.dumps(ENTRY | content).encode())
    assert all(text.isprintable() for text in texts)


@given(st.binary())
def test_any_bytes_are_shown_or_skipped(line: bytes) -> None:
    shown(line)


@given(times)
def test_any_time_is_shown_in_utc_or_skipped(time: str) -> None:
    for text in shown(json.dumps(ENTRY | {"time": time}).encode())[:1]:
        assert text.partition(" ")[0].endswith("Z")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"time": "0001-01-01T00:00:00+23:59"}, "invalid time"),
        ({"time": "9999-12-31T23:59:59-23:59"}, "invalid time"),
        ({"duration_ms": 10**400}, "duration_ms is out of range"),
    ],
)
def test_invalid_time_or_number_is_rejected(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(AuditError, match=problem):
        Entry.parse(json.dumps(ENTRY | fields).encode())


def test_line_of_any_depth_is_shown_or_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.dumps(ENTRY)[:-1]
    for depth in range(0, 3000, 7):
        shown(f'{content}, "deep": {"[" * depth}{"]" * depth}}}'.encode())
    assert set(capsys.readouterr().err.splitlines()) <= {
        "kekctl: a line was skipped: nested too deeply"
    }
