"""The file of one version, whose name has everything but the record.

    <time>-<event>-<etag>-<caller>

The time is in nanoseconds since the Unix epoch, as 16 hex digits, so that the names sort by time.
The etag is empty for a deletion, whose file is empty too. The caller is percent-encoded, and cut
off after some 150 bytes.
"""

import re
from typing import Final, NamedTuple, Self
from urllib.parse import quote, unquote

from kekd_server.storage.version import Version, VersionEvent

_NAME: Final = re.compile(
    rf"([0-9a-f]{{16}})-({'|'.join(VersionEvent)})-([0-9a-f]{{32}}|)-([\w.~%-]*)"
)
_MAX_CALLER_BYTES: Final = 150
_CUT_ESCAPE: Final = re.compile("%.?$")
_ID_ETAG_DIGITS: Final = 12


class VersionFile(NamedTuple):
    time_ns: int
    event: VersionEvent
    etag: str
    caller: str

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Returns None for a name that kekd doesn't give."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        stamp, event, etag, caller = match.groups()
        return cls(int(stamp, 16), VersionEvent(event), etag, unquote(caller))

    @property
    def name(self) -> str:
        caller = _CUT_ESCAPE.sub("", quote(self.caller, safe="")[:_MAX_CALLER_BYTES])
        return f"{self.time_ns:016x}-{self.event}-{self.etag}-{caller}"

    @property
    def id(self) -> str:
        """With a part of the etag, so that it is no id of another index."""
        return f"{self.time_ns:016x}-{self.etag[:_ID_ETAG_DIGITS] or self.event}"

    @property
    def is_deletion(self) -> bool:
        return self.event is VersionEvent.DELETED

    def version(self, size: int) -> Version:
        return Version(self.id, self.event, self.time_ns, self.etag, size, self.caller)
