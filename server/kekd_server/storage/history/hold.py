"""A hold, which protects the envelope of an index and its versions."""

import json
from typing import Final, NamedTuple


class Hold(NamedTuple):
    reason: str
    caller: str
    """The identity of the caller that placed it."""
    time_ns: int
    """Nanoseconds since the Unix epoch."""
    etag: str | None = None
    """Of the record that was there, empty if there was none; None if the store doesn't keep it."""

    @classmethod
    def decode(cls, content: bytes) -> "Hold":
        """Returns a hold for a damaged file too, which still holds the record."""
        try:
            hold = cls(**json.loads(content))
        except (ValueError, TypeError):
            return _DAMAGED
        return hold if hold._has_valid_types() else _DAMAGED

    def encode(self) -> bytes:
        """Returns a JSON object."""
        fields = {name: value for name, value in self._asdict().items() if value is not None}
        return json.dumps(fields).encode()

    def _has_valid_types(self) -> bool:
        texts = (self.reason, self.caller, self.etag or "")
        return isinstance(self.time_ns, int) and all(isinstance(text, str) for text in texts)


_DAMAGED: Final = Hold("its file is damaged", "", 0)
