"""The audit lines of reads that are formatted without an `AuditRecord` are those of one."""

import json
from collections.abc import Sequence
from typing import Any, Final

import pytest

from kekd_server.access.audit.audit_record import AuditRecord, format_lines, format_repeated_read
from kekd_server.access.audit.batch_records import BatchRecords
from kekd_server.access.batch_decision import BatchDecision
from kekd_server.access.repetition import Repetition
from kekd_server.model.errors import EnvelopeNotFoundError, KekdError
from kekd_server.storage.stored_envelope import PreparedEnvelope
from tests.fixtures.access import request_of

REQUEST: Final = request_of("dns:é", is_local=False, peer="ipv4:192.0.2.1:1")
INDEXES: Final = ("a", 'é"\\\n', "日" * 1000)
RULES: Final = ("first", 'second "é"', "first")
STORE: Final = "disk:/keystore"
ETAGS: Final = tuple(digit * 64 for digit in "abc")
VARYING: Final = dict.fromkeys(("time", "duration_ms", "request_id"))


def decision_of(rules: Sequence[str | None]) -> BatchDecision:
    return BatchDecision(REQUEST, "read", STORE, INDEXES, rules, generation=1)


def recorded(rules: Sequence[str | None]) -> list[str]:
    records = [AuditRecord(decision) for decision in decision_of(rules).decisions()]
    for record, etag in zip(records, ETAGS, strict=True):
        record.etag_after = etag
    return portable(format_lines(records, "end"))


def portable(lines: Sequence[str]) -> list[str]:
    """Returns the lines with their fields in the same order, but without those that vary."""
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert all(isinstance(entry["duration_ms"], float) for entry in entries)
    assert all(line.endswith("}\n") for line in lines)
    return [json.dumps(entry | VARYING) for entry in entries]


def test_lines_of_a_batch_are_those_of_its_records() -> None:
    records = BatchRecords(decision_of(RULES))
    records.set_reads([PreparedEnvelope(b"", etag, b"") for etag in ETAGS])
    assert portable(records.read_lines() or []) == recorded(RULES)


@pytest.mark.parametrize(
    "failed", [EnvelopeNotFoundError("a"), decision_of([None] * 3).denial_of("a")]
)
def test_batch_with_a_failure_has_records(failed: KekdError) -> None:
    records = BatchRecords(decision_of(RULES))
    prepared = PreparedEnvelope(b"", ETAGS[0], b"")
    records.set_reads([failed, prepared, prepared])
    assert records.read_lines() is None
    codes = [json.loads(line)["code"] for line in format_lines(records, "end")]
    assert codes[0] != "OK"
    assert codes[1:] == ["OK", "OK"]


def test_line_of_a_repeated_read_is_that_of_its_record() -> None:
    repetition = Repetition(REQUEST.principal, REQUEST.peer)
    lines = [
        format_repeated_read(repetition, STORE, rule, index, etag)
        for rule, index, etag in zip(RULES, INDEXES, ETAGS, strict=True)
    ]
    assert portable(lines) == recorded(RULES)
