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
    rf"([0-9a-f]{{16}})-({'|'.join(VersionEvent)})-([0-9a-f]{{32}}|)-[\w.~%-]*"
)
_TIME_DIGITS: Final = 16
_MAX_CALLER_BYTES: Final = 150
_CUT_ESCAPE: Final = re.compile("%.?$")
_ID_ETAG_DIGITS: Final = 12


class VersionFile(NamedTuple):
    """Parses its name only where a field is needed: each write lists the files of all versions, and
    needs the newest ones.
    """

    name: str

    @classmethod
    def make(cls, time_ns: int, event: VersionEvent, etag: str, caller: str) -> Self:
        cut = _CUT_ESCAPE.sub("", quote(caller, safe="")[:_MAX_CALLER_BYTES])
        return cls(f"{time_ns:0{_TIME_DIGITS}x}-{event}-{etag}-{cut}")

    @staticmethod
    def is_name(name: str) -> bool:
        """Whether kekd gives a file such a name."""
        return _NAME.fullmatch(name) is not None

    @property
    def time_ns(self) -> int:
        return int(self.name[:_TIME_DIGITS], 16)

    @property
    def event(self) -> VersionEvent:
        return VersionEvent(self._fields_of_name()[1])

    @property
    def etag(self) -> str:
        return self._fields_of_name()[2]

    @property
    def caller(self) -> str:
        return unquote(self._fields_of_name()[3], errors="ignore")

    @property
    def id(self) -> str:
        """With a part of the etag, so that it is no id of another index."""
        return f"{self.name[:_TIME_DIGITS]}-{self.etag[:_ID_ETAG_DIGITS] or self.event}"

    @property
    def is_deletion(self) -> bool:
        return self.name.startswith(VersionEvent.DELETED, _TIME_DIGITS + 1)

    def version(self, size: int) -> Version:
        return Version(self.id, self.event, self.time_ns, self.etag, size, self.caller)

    def _fields_of_name(self) -> list[str]:
        return self.name.split("-", 3)
