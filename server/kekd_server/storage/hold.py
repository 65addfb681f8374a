"""A hold, which protects the envelope of an index and its versions."""

import json
from typing import NamedTuple, Self


class Hold(NamedTuple):
    reason: str
    caller: str
    """The identity of the caller that placed it."""
    time_ns: int
    """Nanoseconds since the Unix epoch."""

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Returns a hold for a damaged file too, which still holds the record."""
        try:
            match json.loads(content):
                case {"reason": str(reason), "caller": str(caller), "time_ns": int(time_ns)}:
                    return cls(reason, caller, time_ns)
        except ValueError:
            pass
        return cls("its file is damaged", "", 0)

    def encode(self) -> bytes:
        """Returns a JSON object."""
        return json.dumps(self._asdict()).encode()
