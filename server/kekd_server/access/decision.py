"""What a caller wants to do to an index, whether it may, and how that went."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from typing import Final, Literal

from kekd_common.policy import Method
from kekd_server.access.principal import Caller
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.errors import AccessDeniedError, reason_of, status_of

Event = Literal["begin", "end", "denials"]

MAX_FIELD_CHARACTERS: Final = 512
_DIGEST_DIGITS: Final = 16
_MAX_QUOTED_BYTES: Final = 8 * 2**20
_NULL: Final = "null"
_known: Final = BoundedCache[tuple[str, str, str, str, str | None], str](
    max_bytes=_MAX_QUOTED_BYTES
)


class Deed:
    __slots__ = (
        *("caller", "method", "store", "etag_before", "etag_after"),
        *("count", "_index", "_rule", "_began", "_code", "_reason"),
    )

    def __init__(
        self, caller: Caller, method: Method, store: str, index: str, rule: str | None
    ) -> None:
        """`rule` is the one that lets it happen; without one it mustn't."""
        self.caller = caller
        self.method = method
        self.store = store
        self._index = index
        self._rule = rule
        self._began = time.monotonic()
        self._code = "OK"
        self._reason: str | None = None
        self.count = 1
        """How many denials its line stands for."""
        self.etag_before: str | None = None
        self.etag_after: str | None = None

    @property
    def decision(self) -> str:
        return _decision(self._rule)

    @property
    def is_denied(self) -> bool:
        return self._rule is None

    @property
    def refusal(self) -> AccessDeniedError | None:
        if self._rule is not None:
            return None
        refusal = AccessDeniedError(self.caller.identity, self.method, self._index)
        refusal.store = self.store
        return refusal

    def deny(self) -> None:
        """It was allowed, and isn't any more."""
        self._rule = None

    def check(self) -> None:
        """Raises `AccessDeniedError` if it mustn't happen."""
        if refusal := self.refusal:
            raise refusal

    def failed(self, error: BaseException) -> None:
        self._code = status_of(error)
        self._reason = reason_of(error)

    def line(self, event: Event, now: str, clock: float) -> str:
        """A JSON object, put together by hand as json takes as long as a get."""
        caller = self.caller
        who = _quoted(caller.identity, caller.peer, self.method, self.store, self._rule)
        code, reason, duration = _NULL, _NULL, _NULL
        if event != "begin":
            code = f'"{self._code}"'
            reason = f'"{self._reason}"' if self._reason else _NULL
            duration = f"{(clock - self._began) * 1e3:.3f}"
        return (
            f'{{"time": "{now}", "event": "{event}", "request_id": "{caller.request_id}", {who},'
            f' "index": {_text(self._index)}, "etag_before": {_text(self.etag_before)},'
            f' "etag_after": {_text(self.etag_after)}, "code": {code}, "reason": {reason},'
            f' "duration_ms": {duration}{self._counted(event)}}}\n'
        )

    def _counted(self, event: Event) -> str:
        return f', "count": {self.count}' if self.count > 1 or event == "denials" else ""


def lines(deeds: Iterable[Deed], event: Event) -> list[str]:
    """Of the audit, that it happens to them now."""
    now, clock = _now(), time.monotonic()
    return [it.line(event, now, clock) for it in deeds]


def _quoted(identity: str, peer: str, method: str, store: str, rule: str | None) -> str:
    """The fields that many lines share, as the inside of a JSON object. Cached for allowed deeds
    only, as a denied one may name any store.
    """
    key = (identity, peer, method, store, rule)
    quoted = _known.get(key)
    if quoted is None:
        fields = {
            "identity": shortened(identity),
            "peer": shortened(peer),
            "method": method,
            "store": shortened(store),
            "decision": _decision(rule),
            "rule": None if rule is None else shortened(rule),
        }
        quoted = json.dumps(fields)[1:-1]
        if rule is not None:
            _known.put(key, quoted, size=entry_bytes(identity, peer, quoted))
    return quoted


def _decision(rule: str | None) -> str:
    return "denied" if rule is None else "allowed"


def _text(text: str | None) -> str:
    return _NULL if text is None else encode_basestring_ascii(shortened(text))


def shortened(text: str) -> str:
    """With at most `MAX_FIELD_CHARACTERS`: of a longer text its beginning, its length, and a digest
    that tells it from others with the same beginning.
    """
    if len(text) <= MAX_FIELD_CHARACTERS:
        return text
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    cut = f"...[{len(text)} characters, sha256 {digest}]"
    return text[: MAX_FIELD_CHARACTERS - len(cut)] + cut


def _now() -> str:
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_second(seconds)}.{microseconds:06}+00:00"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
