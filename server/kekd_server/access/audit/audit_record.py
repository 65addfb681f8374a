"""One operation on one index, as the audit log records it."""

import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from typing import Final, Literal

from kekd_server.access.batch_decision import BatchDecision
from kekd_server.access.decision import AccessDecision
from kekd_server.access.repetition import Repetition
from kekd_server.access.request_context import RequestContext
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.errors import reason_of, status_of
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.version import Version

Event = Literal["begin", "end", "denials"]

MAX_FIELD_CHARACTERS: Final = 512
_DIGEST_DIGITS: Final = 16
_MAX_SHARED_FIELDS_BYTES: Final = 8 * 2**20
_NULL: Final = "null"
_shared_fields_cache: Final = BoundedCache[tuple[str, str, str, str, str | None], str](
    max_bytes=_MAX_SHARED_FIELDS_BYTES
)


class AuditRecord:
    __slots__ = (
        *("decision", "etag_before", "etag_after", "version_id", "justification", "destruction"),
        *("imported", "denials"),
        *("_started_at", "_code", "_reason"),
    )

    def __init__(self, decision: AccessDecision, started_at: float | None = None) -> None:
        """`started_at`: a time of `time.monotonic`. None is now."""
        self.decision = decision
        self.etag_before: str | None = None
        self.etag_after: str | None = None
        self.version_id: str | None = None
        """The version that is read or restored."""
        self.justification: str | None = None
        """Why the caller holds or destroys the envelope."""
        self.destruction: Destruction | None = None
        self.imported: Sequence[Version] | None = None
        """The versions that the caller added from a backup."""
        self.denials = 1
        """How many denials the line covers."""
        self._started_at = time.monotonic() if started_at is None else started_at
        self._code = "OK"
        self._reason: str | None = None

    def set_outcome(self, error: BaseException) -> None:
        self._code = status_of(error)
        self._reason = reason_of(error)

    def line(self, event: Event, now: str, clock: float) -> str:
        """Returns a JSON object and a newline. Assembled by hand: the json module takes as long as
        a whole get.
        """
        decision = self.decision
        beginning = _beginning(
            *(event, now, decision.request, decision.method, decision.store, decision.rule)
        )
        duration = _NULL if event == "begin" else f"{(clock - self._started_at) * 1e3:.3f}"
        return f"{beginning}{self._outcome(event)}{duration}{self._optional_fields(event)}}}\n"

    def _outcome(self, event: Event) -> str:
        """Returns the part of the line between the fields that many lines share and the value of
        `duration_ms`.
        """
        code, reason = _NULL, _NULL
        if event != "begin":
            code = f'"{self._code}"'
            reason = f'"{self._reason}"' if self._reason else _NULL
        return (
            f'"index": {_text(self.decision.index)}, "etag_before": {_text(self.etag_before)},'
            f' "etag_after": {_text(self.etag_after)}, "code": {code}, "reason": {reason},'
            ' "duration_ms": '
        )

    def _optional_fields(self, event: Event) -> str:
        fields = ""
        if self.version_id is not None:
            fields += f', "version_id": {_text(self.version_id)}'
        if self.justification is not None:
            fields += f', "justification": {_text(self.justification)}'
        if self.destruction is not None and event == "end":
            fields += f', "receipt": {_receipt(self.destruction)}'
        if self.imported is not None and event == "end":
            fields += f', "imported": {_versions(self.imported)}'
        if self.denials > 1 or event == "denials":
            fields += f', "count": {self.denials}'
        return fields


def format_lines(records: Iterable[AuditRecord], event: Event) -> list[str]:
    """Returns the lines for an event that happens now."""
    now, clock = _now(), time.monotonic()
    return [record.line(event, now, clock) for record in records]


def format_reads(decision: BatchDecision, etags: Sequence[str], started_at: float) -> list[str]:
    """Returns the lines that `AuditRecord.line` would, for reads of a batch that all succeeded and
    end now.
    """
    now = _now()
    beginnings = {
        rule: _beginning("end", now, decision.request, decision.method, decision.store, rule)
        for rule in set(decision.rules)
    }
    end = f"{(time.monotonic() - started_at) * 1e3:.3f}}}\n"
    return [
        beginnings[rule] + _read_outcome(index, etag) + end
        for rule, index, etag in zip(decision.rules, decision.indexes, etags, strict=True)
    ]


def format_repeated_read(
    repetition: Repetition, store: str, rule: str | None, index: str, etag: str
) -> str:
    """Returns the line that `AuditRecord.line` would, for a read that succeeded and ends now."""
    duration = time.monotonic() - repetition.started_at
    return (
        f"{_beginning('end', _now(), repetition, 'read', store, rule)}"
        f"{_read_outcome(index, etag)}{duration * 1e3:.3f}}}\n"
    )


def _beginning(  # noqa: PLR0913, PLR0917
    event: Event,
    now: str,
    call: RequestContext | Repetition,
    method: str,
    store: str,
    rule: str | None,
) -> str:
    """Returns the part of a line before the fields of its index."""
    shared = _shared_fields(call.principal.identity, call.peer, method, store, rule)
    return f'{{"time": "{now}", "event": "{event}", "request_id": "{call.request_id}", {shared}, '


def _read_outcome(index: str, etag: str) -> str:
    """Returns what `AuditRecord._outcome` does for a read that succeeded. An etag is short."""
    return (
        f'"index": {_text(index)}, "etag_before": null,'
        f' "etag_after": {encode_basestring_ascii(etag)},'
        ' "code": "OK", "reason": null, "duration_ms": '
    )


def _shared_fields(identity: str, peer: str, method: str, store: str, rule: str | None) -> str:
    """Returns the fields that many lines share, as the inside of a JSON object. Cached for allowed
    calls only, because a denied call may name any store.
    """
    key = (identity, peer, method, store, rule)
    fields = _shared_fields_cache.get(key)
    if fields is None:
        fields = _format_shared_fields(*key)
        if rule is not None:
            _shared_fields_cache.put(key, fields, size=entry_bytes(identity, peer, fields))
    return fields


def _format_shared_fields(
    identity: str, peer: str, method: str, store: str, rule: str | None
) -> str:
    fields = {
        "identity": truncate(identity),
        "peer": truncate(peer),
        "method": method,
        "store": truncate(store),
        "decision": "denied" if rule is None else "allowed",
        "rule": None if rule is None else truncate(rule),
    }
    return json.dumps(fields)[1:-1]


def _receipt(destruction: Destruction) -> str:
    return json.dumps(
        {
            "destroyed": [version._asdict() for version in destruction.destroyed],
            "remaining": [version._asdict() for version in destruction.remaining],
        }
    )


def _versions(versions: Iterable[Version]) -> str:
    return json.dumps(
        [
            {
                "time": _format_time(version.time_ns),
                "event": version.event,
                "caller": truncate(version.caller),
                "etag": version.etag,
            }
            for version in versions
        ]
    )


def _text(text: str | None) -> str:
    if text is None:
        return _NULL
    return encode_basestring_ascii(text if len(text) <= MAX_FIELD_CHARACTERS else truncate(text))


def truncate(text: str) -> str:
    """Returns at most `MAX_FIELD_CHARACTERS`. For a longer text, returns its beginning, its length,
    and a digest that distinguishes it from others with the same beginning.
    """
    if len(text) <= MAX_FIELD_CHARACTERS:
        return text
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    cut = f"...[{len(text)} characters, sha256 {digest}]"
    return text[: MAX_FIELD_CHARACTERS - len(cut)] + cut


def _now() -> str:
    return _format_time(time.time_ns())


def _format_time(time_ns: int) -> str:
    seconds, microseconds = divmod(time_ns // 1000, 1_000_000)
    return f"{_second(seconds)}.{microseconds:06}+00:00"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
