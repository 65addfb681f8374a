"""The daemon's audit, read: a JSON object a line, one or two for each decision.

A write has a line "begin" before it is done, and one "end" with its outcome; a read has "end" only.
Denials beyond a rate have one "denials" for many.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any


class AuditError(ValueError):
    """What isn't a line of the audit; the message holds none of it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line. What it doesn't say is empty."""

    time: datetime
    event: str
    request_id: str
    identity: str
    peer: str
    method: str
    store: str
    index: str
    etag_before: str
    etag_after: str
    decision: str
    rule: str
    code: str
    reason: str
    duration_ms: float | None
    count: int
    """How many denials it stands for; that of a batch, or those that have no line of their own."""
    content: dict[str, Any] = field(repr=False)
    """The whole line, with what a newer daemon may say."""

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
        raise AuditError("not a line of the audit")

    @property
    def key(self) -> tuple[str, ...]:
        """What the begin and the end of a decision have in common."""
        return self.request_id, self.method, self.store, self.index


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Each that is given must hold; globs are fnmatch's, and tell upper from lower case."""

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
            all(_matches(getattr(entry, it), getattr(self, it)) for it in globs)
            and (not self.denied or entry.decision == "denied")
            and (self.since is None or self.since <= entry.time)
            and (self.until is None or entry.time < self.until)
        )


def decisions(entries: Iterable[Entry]) -> Iterator[Entry]:
    """One for each decision, when it has ended. At the end of all come those that had begun, and of
    which no end is told: the daemon may have been killed, or be at it.
    """
    begun: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        if entry.event == "begin":
            begun[entry.key] = entry
        else:
            begun.pop(entry.key, None)
            yield entry
    yield from begun.values()


def _matches(text: str, pattern: str | None) -> bool:
    return pattern is None or fnmatchcase(text, pattern)


def _values(content: dict[str, Any]) -> dict[str, Any]:
    texts = {it.name: content.get(it.name) for it in fields(Entry) if it.type is str}
    if not all(isinstance(it, str | None) for it in texts.values()):
        raise AuditError("a value is of the wrong type")
    count = content.get("count", 1)
    if not isinstance(count, int):
        raise AuditError("a value is of the wrong type")
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
        raise AuditError("a value is of the wrong type")
    try:
        return float(value)
    except OverflowError:
        raise AuditError("its duration is no number of milliseconds") from None


def _time(text: str) -> datetime:
    """In UTC, which a time at either end of the calendar may not have."""
    try:
        time = datetime.fromisoformat(text)
        utc = time.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise AuditError("its time isn't one") from None
    if time.tzinfo is None:
        raise AuditError("its time has no zone")
    return utc
