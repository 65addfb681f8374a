"""Parses the daemon's audit log: JSON Lines, one or two for each decision.

A write has a line "begin" before it runs, and a line "end" with its outcome. A read has "end" only.
Denials above a rate are summarized in a line "denials".
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any


class AuditError(ValueError):
    """Not a line of the audit log. The message quotes none of the line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line. Fields that it lacks are empty."""

    time: datetime
    event: str
    request_id: str
    identity: str
    peer: str
    method: str
    store: str
    index: str
    version_id: str
    """The version that was read or restored."""
    etag_before: str
    etag_after: str
    decision: str
    rule: str
    code: str
    reason: str
    duration_ms: float | None
    count: int
    """How many denials this line covers: those of a batch, or those without a line of their own."""
    content: dict[str, Any] = field(repr=False)
    """The whole line, including fields of newer daemons."""

    @classmethod
    def parse(cls, line: bytes) -> "Entry":
        """Raises `AuditError`."""
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            raise AuditError("not JSON") from None
        match content:
            case {
                "time": str(),
                "event": "begin" | "end" | "denials",
                "method": str(),
                "decision": str(),
            }:
                return cls(**_values(content), content=content)
        raise AuditError("not an audit record")

    @property
    def key(self) -> tuple[str, ...]:
        """Identifies a decision: equal for its "begin" and its "end"."""
        return self.request_id, self.method, self.store, self.index


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Conditions that must all hold. Globs are those of fnmatch, and case-sensitive."""

    identity: str | None = None
    method: str | None = None
    index: str | None = None
    store: str | None = None
    code: str | None = None
    reason: str | None = None
    denied: bool = False
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, entry: Entry) -> bool:
        globs = ("identity", "method", "index", "store", "code", "reason")
        return (
            all(_matches(getattr(entry, name), getattr(self, name)) for name in globs)
            and (not self.denied or entry.decision == "denied")
            and (self.since is None or self.since <= entry.time)
            and (self.until is None or entry.time < self.until)
        )


def decisions(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yields one entry for each decision, when it ends.

    Writes without an end come last: the daemon was killed, or is still writing.
    """
    unfinished: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        if entry.event == "begin":
            unfinished[entry.key] = entry
        else:
            unfinished.pop(entry.key, None)
            yield entry
    yield from unfinished.values()


def _matches(text: str, pattern: str | None) -> bool:
    return pattern is None or fnmatchcase(text, pattern)


def _values(content: dict[str, Any]) -> dict[str, Any]:
    names = [field.name for field in fields(Entry) if field.type is str]
    texts = {name: content.get(name) for name in names}
    if not all(isinstance(text, str | None) for text in texts.values()):
        raise AuditError("a field has the wrong type")
    count = content.get("count", 1)
    if not isinstance(count, int):
        raise AuditError("a field has the wrong type")
    return {
        **{name: text or "" for name, text in texts.items()},
        "time": _time(content["time"]),
        "duration_ms": _duration(content.get("duration_ms")),
        "count": count,
    }


def _duration(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise AuditError("a field has the wrong type")
    try:
        return float(value)
    except OverflowError:
        raise AuditError("duration_ms is out of range") from None


def _time(text: str) -> datetime:
    """Returns the time in UTC."""
    try:
        time = datetime.fromisoformat(text)
        utc = time.astimezone(UTC)
    except (ValueError, OverflowError, OSError):  # also year 1 or 9999, if UTC has another year
        raise AuditError("invalid time") from None
    if time.tzinfo is None:
        raise AuditError("the time has no UTC offset")
    return utc
