"""Versions from a backup, and where they belong in the history of an index."""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from kekd_schema import Envelope, encode
from kekd_server.model.envelope_validation import validate_envelope
from kekd_server.model.errors import HistoryConflictError, InvalidRequestError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.history.version import Origin, VersionEvent
from kekd_server.storage.history.version_file import VersionFile


class ImportedVersion(NamedTuple):
    time_ns: int
    origin: Origin
    record: bytes
    """Empty for a deletion."""
    etag: str = ""
    """The etag that the record had, if it is known. It differs from the new one if another program
    encoded the record, or another kind of store kept it."""

    @property
    def is_deletion(self) -> bool:
        return self.origin.event is VersionEvent.DELETED


class ImportedEnvelope(NamedTuple):
    time_ns: int
    origin: Origin
    envelope: Envelope | None
    """None for a deletion."""
    etag: str = ""
    """As in `ImportedVersion`."""

    @property
    def version(self) -> ImportedVersion:
        record = encode(self.envelope) if self.envelope else b""
        return ImportedVersion(self.time_ns, self.origin, record, self.etag)


class MissingVersion(NamedTuple):
    """A version that the history needs."""

    file: VersionFile
    record: bytes


class KnownVersion(Protocol):
    @property
    def time_ns(self) -> int: ...

    @property
    def etag(self) -> str: ...


def validate_import(versions: Sequence[ImportedEnvelope]) -> None:
    """Raises `InvalidEnvelopeError`, and `InvalidRequestError` unless the times descend from now or
    earlier.
    """
    latest = time.time_ns() + 1
    for place, version in enumerate(versions):
        if not 0 < version.time_ns < latest:
            limit = f"that of versions[{place - 1}]" if place else "now"
            raise InvalidRequestError(
                f"versions[{place}].time is not before {limit}; send the versions newest first,"
                " with the times that they had"
            )
        latest = version.time_ns
        if version.envelope:
            validate_envelope(version.envelope)


def find_missing(
    name: IndexName,
    imported: Sequence[ImportedVersion],
    existing: Sequence[KnownVersion],
    etag_of: Callable[[bytes], str],
) -> list[MissingVersion]:
    """Returns the imported versions that are not among the existing ones. Both are newest first.

    Raises `HistoryConflictError` unless they belong below all existing ones. An index without an
    envelope has a deletion as its newest version.
    """
    known = {_identity(version.time_ns, version.etag) for version in existing}
    missing = [
        MissingVersion(file, version.record)
        for version, file in zip(imported, _files_of(imported, etag_of), strict=True)
        if known.isdisjoint(_identity(file.time_ns, etag) for etag in _etags(version, file))
    ]
    if missing and existing and missing[0].file.time_ns >= existing[-1].time_ns:
        raise HistoryConflictError(
            name.value,
            f"one is from {_format(missing[0].file.time_ns)}, and the index has one from"
            f" {_format(existing[-1].time_ns)} already; import only versions that are older than"
            " those of the index",
        )
    if missing and not existing and not missing[0].file.is_deletion:
        raise HistoryConflictError(
            name.value,
            "it has no envelope, and the newest of these versions is no deletion; create the"
            " envelope first",
        )
    return missing


def _files_of(
    versions: Iterable[ImportedVersion], etag_of: Callable[[bytes], str]
) -> list[VersionFile]:
    return [
        VersionFile.make(
            version.time_ns,
            version.origin.event,
            "" if version.is_deletion else etag_of(version.record),
            version.origin.caller,
        )
        for version in versions
    ]


def _etags(version: ImportedVersion, file: VersionFile) -> Sequence[str]:
    return (file.etag, version.etag) if version.etag else (file.etag,)


def _identity(time_ns: int, etag: str) -> tuple[int, str]:
    """Clients have the times in microseconds."""
    return time_ns // 1000, etag


def _format(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 10**9, UTC).isoformat()
