"""A version of an envelope as JSON, in a backup with the history.

    {"index_name": "my_index", "blob": {…}, "etag": "…", "version_id": "…", "event": "pushed", …}

A deletion has no blob and no etag.
"""

from datetime import datetime
from typing import Any, Final

from kekd._cli.errors import EnvelopeJSONError
from kekd._cli.output.json_format import EnvelopeJSON
from kekd._cli.output.times import format_timestamp
from kekd._models import EnvelopeVersion, VersionEvent

_KEYS: Final = ("version_id", "event", "time", "caller")


def version_content(index_name: str, version: EnvelopeVersion) -> dict[str, Any]:
    """Returns a version as JSON values."""
    envelope = (
        EnvelopeJSON(index_name, version.blob).as_content()
        if version.blob
        else {"index_name": index_name}
    )
    values = (version.version_id, version.event, format_timestamp(version.time), version.caller)
    return envelope | dict(zip(_KEYS, values, strict=True))


def is_version(content: dict[str, Any]) -> bool:
    return "version_id" in content


def is_deletion(content: dict[str, Any]) -> bool:
    return is_version(content) and "blob" not in content


def parse_envelope(content: dict[str, Any]) -> EnvelopeJSON:
    """Reads the envelope of a version, or one without a version. Raises `EnvelopeJSONError`."""
    if is_deletion(content):
        raise EnvelopeJSONError("no envelope: the line is the deletion of one; choose another line")
    keys = _KEYS if is_version(content) else ()
    return EnvelopeJSON.from_content(
        {key: value for key, value in content.items() if key not in keys}
    )


def parse_version(content: dict[str, Any]) -> EnvelopeVersion:
    """Raises `EnvelopeJSONError`."""
    try:
        event = VersionEvent(content["event"])
        time = datetime.fromisoformat(content["time"])
        version_id, caller = str(content["version_id"]), str(content["caller"])
    except (KeyError, ValueError, TypeError):
        raise EnvelopeJSONError("not a version of an envelope; use another backup") from None
    if is_deletion(content) is not (event is VersionEvent.DELETED) or time.tzinfo is None:
        raise EnvelopeJSONError("not a version of an envelope; use another backup")
    blob = None if is_deletion(content) else parse_envelope(content).blob
    return EnvelopeVersion(version_id, event, time, caller, str(content.get("etag", "")), 0, blob)
