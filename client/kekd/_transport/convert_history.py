"""Converts versions, holds and receipts to protobuf messages and back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from kekd._models import (
    DestroyedVersion,
    DestructionReceipt,
    EnvelopeVersion,
    Hold,
    RemainingVersion,
    VersionEvent,
)
from kekd._transport.convert import parse_envelope, parse_failure, set_blob, set_texts
from kekd_proto.v1 import envelope_pb2 as pb

_EVENTS: Final[dict[int, VersionEvent]] = {
    pb.EnvelopeVersion.EVENT_CREATED: VersionEvent.CREATED,
    pb.EnvelopeVersion.EVENT_PUSHED: VersionEvent.PUSHED,
    pb.EnvelopeVersion.EVENT_RESTORED: VersionEvent.RESTORED,
    pb.EnvelopeVersion.EVENT_UNDELETED: VersionEvent.UNDELETED,
    pb.EnvelopeVersion.EVENT_DELETED: VersionEvent.DELETED,
    pb.EnvelopeVersion.EVENT_FOUND: VersionEvent.FOUND,
}
_EVENT_NUMBERS: Final = {event: number for number, event in _EVENTS.items()}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def make_imported_versions(versions: Sequence[EnvelopeVersion]) -> list[pb.ImportedVersion]:
    """Times in microseconds may be equal, and the daemon's are not: of equal times, each newer
    version gets a nanosecond more.
    """
    messages = []
    latest = 0
    for version in reversed(versions):
        latest = max((version.time - _EPOCH) // timedelta(microseconds=1) * 1000, latest + 1)
        messages.append(_make_imported(version, latest))
    return messages[::-1]


def _make_imported(version: EnvelopeVersion, time_ns: int) -> pb.ImportedVersion:
    message = pb.ImportedVersion(event=_EVENT_NUMBERS[version.event])  # type: ignore[arg-type]
    message.time.FromNanoseconds(time_ns)
    set_texts(message, caller=version.caller, etag=version.etag)
    if version.blob:
        set_blob(message.blob, version.blob)
    return message


def parse_versions(
    response: pb.ListEnvelopeVersionsResponse, index_name: str
) -> list[EnvelopeVersion]:
    return [_parse_version(version, index_name, response.store) for version in response.versions]


def parse_hold(response: pb.ListEnvelopeVersionsResponse) -> Hold | None:
    if not response.HasField("hold"):
        return None
    hold = response.hold
    return Hold(hold.reason, hold.caller, hold.time.ToDatetime(UTC))


def parse_receipt(response: pb.DestroyEnvelopeResponse, index_name: str) -> DestructionReceipt:
    return DestructionReceipt(
        index_name,
        response.store,
        tuple(
            DestroyedVersion(version.version_id, version.etag, version.wrapped_kek_sha256)
            for version in response.destroyed
        ),
        tuple(
            RemainingVersion(version.version_id, version.reason) for version in response.remaining
        ),
        tuple(response.unchecked),
    )


def _parse_version(version: pb.EnvelopeVersion, index_name: str, store: str) -> EnvelopeVersion:
    has_blob, has_failed = version.HasField("blob"), version.HasField("failure")
    return EnvelopeVersion(
        version.version_id,
        _EVENTS.get(version.event, VersionEvent.PUSHED),
        version.time.ToDatetime(UTC),
        version.caller,
        version.etag,
        version.size,
        parse_envelope(version.blob, version.etag, store) if has_blob else None,
        parse_failure(version.failure, index_name, store) if has_failed else None,
    )
