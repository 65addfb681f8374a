"""Versions of a backup are checked and ordered on their way to the store."""

from datetime import UTC, datetime

import pytest

import kekd
from kekd._operations import batches
from kekd_common.limits import MAX_IMPORTED_VERSIONS, MAX_REQUEST_BYTES
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.model.errors import InvalidEnvelopeError, InvalidRequestError, KekdError
from kekd_server.rpc import convert
from kekd_server.storage.history.version import VersionEvent

BLOB = pb.KMSBlob(provider="none")
PUSHED = pb.EnvelopeVersion.EVENT_PUSHED
DELETED = pb.EnvelopeVersion.EVENT_DELETED
TIME = datetime(2026, 1, 31, 12, tzinfo=UTC)


def request_of(*versions: pb.ImportedVersion) -> pb.ImportEnvelopeVersionsRequest:
    return pb.ImportEnvelopeVersionsRequest(index_name="i", versions=versions)


def version(
    time: datetime = TIME, event: kekd.VersionEvent = kekd.VersionEvent.PUSHED, size: int = 1
) -> kekd.EnvelopeVersion:
    blob = kekd.KMSBlob(provider="aws-kms", key_id="k" * size)
    is_deletion = event is kekd.VersionEvent.DELETED
    return kekd.EnvelopeVersion("id", event, time, "dns:me", "", 0, None if is_deletion else blob)


def sent(*versions: kekd.EnvelopeVersion) -> list[pb.ImportEnvelopeVersionsRequest]:
    requests = [call.request for call in batches.version_imports(None, "i", versions)]
    assert all(isinstance(request, pb.ImportEnvelopeVersionsRequest) for request in requests)
    return requests  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (request_of(), InvalidRequestError, "1 to 100 versions"),
        (
            request_of(*[pb.ImportedVersion(event=DELETED)] * (MAX_IMPORTED_VERSIONS + 1)),
            InvalidRequestError,
            "1 to 100 versions",
        ),
        (request_of(pb.ImportedVersion(blob=BLOB)), InvalidRequestError, "no event"),
        (request_of(pb.ImportedVersion(event=PUSHED)), InvalidEnvelopeError, "blob is missing"),
        (
            request_of(pb.ImportedVersion(event=DELETED, blob=BLOB)),
            InvalidRequestError,
            "a deletion and has a blob",
        ),
    ],
)
def test_malformed_version_is_refused(
    request_: pb.ImportEnvelopeVersionsRequest, error: type[KekdError], message: str
) -> None:
    with pytest.raises(error, match=message):
        convert.parse_imported(request_)


def test_each_event_of_a_version_can_be_imported() -> None:
    (request,) = sent(*(version(event=event) for event in kekd.VersionEvent))
    events = [imported.origin.event for imported in convert.parse_imported(request)]
    assert events == list(VersionEvent)


def test_equal_times_are_sent_in_order_and_keep_their_microsecond() -> None:
    (request,) = sent(version(), version(), version(TIME.replace(microsecond=999)), version())
    times = [message.time.ToNanoseconds() for message in request.versions]
    assert times == sorted(set(times), reverse=True)
    (request,) = sent(version(), version(), version())
    assert {message.time.ToDatetime(UTC) for message in request.versions} == {TIME}


@pytest.mark.parametrize(("count", "size"), [(250, 1), (40, 4096)])
def test_many_versions_are_sent_in_requests_that_the_daemon_accepts(count: int, size: int) -> None:
    requests = sent(*[version(size=size)] * count)
    assert sum(len(request.versions) for request in requests) == count
    for request in requests:
        assert len(request.versions) <= MAX_IMPORTED_VERSIONS
        assert request.ByteSize() < MAX_REQUEST_BYTES
    assert requests[0].versions[0].time.nanos > requests[-1].versions[-1].time.nanos
