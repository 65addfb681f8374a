"""The metadata with which kekd marks an object as a version: its time, event and caller."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from kekd_server.storage.history.version import VersionEvent
from kekd_server.storage.history.version_file import VersionFile, encode_caller
from kekd_server.storage.s3.client import StoredObject

_TIME: Final = "x-amz-meta-kekd-time"
"""Nanoseconds since the Unix epoch."""
_EVENT: Final = "x-amz-meta-kekd-event"
_CALLER: Final = "x-amz-meta-kekd-caller"
_EVENTS: Final = frozenset(VersionEvent) - {VersionEvent.DELETED}
_MAX_TIME_DIGITS: Final = 19


def headers_of(file: VersionFile) -> Mapping[str, str]:
    headers = {_TIME: str(file.time_ns), _EVENT: str(file.event)}
    if caller := encode_caller(file.caller):
        headers[_CALLER] = caller
    return headers


def version_of(stored: StoredObject) -> VersionFile:
    """Returns the version that an object is by its metadata. If it has none, another program stored
    it.
    """
    time, event = stored.metadata.get(_TIME, ""), stored.metadata.get(_EVENT, "")
    is_time = time.isascii() and time.isdecimal() and len(time) <= _MAX_TIME_DIGITS
    if not is_time or event not in _EVENTS:
        return VersionFile.make(stored.modified_ns, VersionEvent.FOUND, stored.etag, "")
    caller = unquote(stored.metadata.get(_CALLER, ""), errors="ignore")
    return VersionFile.make(int(time), VersionEvent(event), stored.etag, caller)


def identify(stored: StoredObject, kept: Sequence[VersionFile]) -> VersionFile:
    """Returns the version that an object is among those that kekd keeps, newest first. It is the
    newest one of them, or a later one. A copy of an earlier version, which has its metadata, was
    found.
    """
    file = version_of(stored)
    if not kept or file == kept[0] or file.time_ns > kept[0].time_ns:
        return file
    is_known = kept[0].event is VersionEvent.FOUND and kept[0].etag == stored.etag
    if is_known and stored.modified_ns <= kept[0].time_ns:
        return kept[0]
    time_ns = max(stored.modified_ns, kept[0].time_ns + 1)
    return VersionFile.make(time_ns, VersionEvent.FOUND, stored.etag, "")
