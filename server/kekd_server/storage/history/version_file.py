"""The file or object of one version, whose name has everything but the record.

    <time>-<event>-<etag>-<caller>

The time is in nanoseconds since the Unix epoch, as 16 hex digits, so that the names sort by time.
It is before the year 2116: a later name isn't kekd's, and would leave no time for newer versions.
The etag is empty for a deletion, which has no content. Etag and caller are percent-encoded, and the
caller is cut off after some 150 bytes.
"""

import re
import time
from functools import lru_cache
from typing import Final, NamedTuple, Self
from urllib.parse import quote, unquote

from kekd_server.storage.history.version import Version, VersionEvent

_NAME: Final = re.compile(
    rf"([0-3][0-9a-f]{{15}})-({'|'.join(VersionEvent)})-([\w.~%]*)-[\w.~%-]*", re.ASCII
)
_ID: Final = re.compile(r"[0-9a-f]{16}-[\w.~%]+", re.ASCII)
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
        return cls(
            f"{time_ns:0{_TIME_DIGITS}x}-{event}-{_encode_etag(etag)}-{encode_caller(caller)}"
        )

    @classmethod
    def after(
        cls, newest: "VersionFile | None", event: VersionEvent, etag: str, caller: str
    ) -> Self:
        """Makes a version of now. It is later than the newest one, even if the clock was set
        back.
        """
        earliest = newest.time_ns + 1 if newest else 0
        return cls.make(max(time.time_ns(), earliest), event, etag, caller)

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
        return unquote(self._fields_of_name()[2])

    @property
    def caller(self) -> str:
        return unquote(self._fields_of_name()[3], errors="ignore")

    @property
    def id(self) -> str:
        """With a part of the etag, so that it is no id of another index."""
        return (
            f"{self.name[:_TIME_DIGITS]}-{_encode_etag(self.etag)[:_ID_ETAG_DIGITS] or self.event}"
        )

    @property
    def is_deletion(self) -> bool:
        return self.name.startswith(VersionEvent.DELETED, _TIME_DIGITS + 1)

    def version(self, size: int) -> Version:
        return Version(self.id, self.event, self.time_ns, self.etag, size, self.caller)

    def _fields_of_name(self) -> list[str]:
        return self.name.split("-", 3)


@lru_cache(maxsize=1024)
def encode_caller(caller: str) -> str:
    """Returns a text for names and headers, cut off after a character."""
    encoded = quote(caller, safe="")
    if len(encoded) <= _MAX_CALLER_BYTES:
        return encoded
    cut = _CUT_ESCAPE.sub("", encoded[:_MAX_CALLER_BYTES])
    return quote(unquote(cut, errors="ignore"), safe="")


def is_version_id(text: str) -> bool:
    """Whether a text has the form of `VersionFile.id`."""
    return _ID.fullmatch(text) is not None


def _encode_etag(etag: str) -> str:
    """Encodes hyphens too, which separate the parts of a name."""
    if etag.isalnum() and etag.isascii():  # nearly every one
        return etag
    return quote(etag, safe="").replace("-", "%2D")
