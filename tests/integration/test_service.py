"""The five basic calls on the wire: their answers and errors."""

from typing import Any

import pytest

from kekd_common.reasons import DOMAIN
from kekd_proto.v1 import envelope_pb2 as pb
from tests.fixtures.daemon import both_engines
from tests.integration.fixtures.wire import failure_of

pytestmark = both_engines

BLOB = pb.KMSBlob(
    kms_name="prod",
    provider="aws-kms",
    key_id="alias/prod",
    region="us-east-1",
    wrapped_kek=b"\0\1\2",
    version=3,
    created_at=1_700_000_000,
    key_arn="arn:aws:kms:us-east-1:111122223333:key/0",
    binding="index",
)
OTHER = pb.KMSBlob(provider="none", version=1)


def get(stub: Any, name: str = "i") -> pb.GetEnvelopeResponse:
    answer: pb.GetEnvelopeResponse = stub.GetEnvelope(pb.GetEnvelopeRequest(index_name=name))
    return answer


def names(stub: Any) -> list[str]:
    return [entry.index_name for entry in stub.ListEnvelopes(pb.ListEnvelopesRequest()).envelopes]


def test_get_answers_with_every_field_that_was_created(stub: Any) -> None:
    created = stub.CreateEnvelope(pb.CreateEnvelopeRequest(index_name="i", blob=BLOB))
    assert get(stub) == pb.GetEnvelopeResponse(blob=BLOB, etag=created.etag, store="memory")


def test_omitted_version_is_1(stub: Any) -> None:
    stub.CreateEnvelope(pb.CreateEnvelopeRequest(index_name="i", blob=pb.KMSBlob(provider="none")))
    assert get(stub).blob.version == 1


def test_create_is_strict(stub: Any) -> None:
    request = pb.CreateEnvelopeRequest(index_name="i", blob=BLOB)
    stub.CreateEnvelope(request)
    code, info = failure_of(stub.CreateEnvelope, request)
    assert code == "ALREADY_EXISTS"
    assert info.domain == DOMAIN
    assert info.reason == "ENVELOPE_EXISTS"
    assert info.metadata == {"index_name": "i", "store": "memory"}


def test_push_is_an_upsert(stub: Any) -> None:
    first = stub.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=OTHER))
    second = stub.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=BLOB))
    assert first.etag != second.etag
    assert get(stub) == pb.GetEnvelopeResponse(blob=BLOB, etag=second.etag, store="memory")


def test_push_with_a_stale_etag_changes_nothing(stub: Any) -> None:
    stale = stub.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=OTHER)).etag
    stub.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=BLOB, if_etag=stale))
    request = pb.PushEnvelopeRequest(index_name="i", blob=OTHER, if_etag=stale)
    code, info = failure_of(stub.PushEnvelope, request)
    assert (code, info.reason) == ("FAILED_PRECONDITION", "ETAG_MISMATCH")
    assert get(stub).blob == BLOB


def test_delete_prints_whether_an_envelope_existed(stub: Any) -> None:
    stub.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=BLOB))
    assert stub.DeleteEnvelope(pb.DeleteEnvelopeRequest(index_name="i")).existed
    assert not stub.DeleteEnvelope(pb.DeleteEnvelopeRequest(index_name="i")).existed
    assert names(stub) == []


def test_delete_with_a_stale_etag_changes_nothing(stub: Any) -> None:
    stale = stub.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=OTHER)).etag
    stub.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=BLOB))
    request = pb.DeleteEnvelopeRequest(index_name="i", if_etag=stale)
    assert failure_of(stub.DeleteEnvelope, request)[1].reason == "ETAG_MISMATCH"
    assert get(stub).blob == BLOB


def test_pages_of_any_size_join_to_the_whole_listing(stub: Any) -> None:
    wanted = [f"a/{number:02}" for number in range(10)]
    for name in [*wanted, "b"]:
        stub.PushEnvelope(pb.PushEnvelopeRequest(index_name=name, blob=OTHER))
    request = pb.ListEnvelopesRequest(prefix="a/", page_size=4)
    sizes, listed = [], []
    while True:
        page = stub.ListEnvelopes(request)
        sizes.append(len(page.envelopes))
        listed += [entry.index_name for entry in page.envelopes]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert listed == wanted
    assert sizes == [4, 4, 2]


def test_full_last_page_has_no_token(stub: Any) -> None:
    stub.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=OTHER))
    assert not stub.ListEnvelopes(pb.ListEnvelopesRequest(page_size=1)).next_page_token


def blob(**changes: Any) -> pb.KMSBlob:
    changed = pb.KMSBlob()
    changed.CopyFrom(BLOB)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def push(**fields: Any) -> pb.PushEnvelopeRequest:
    defaults: dict[str, Any] = {"index_name": "i", "blob": BLOB}
    return pb.PushEnvelopeRequest(**(defaults | fields))


LOST_ETAG = pb.DeleteEnvelopeRequest(index_name="i", if_etag="")
INVALID = "INVALID_ARGUMENT"
NOT_CONFIGURED = ("PERMISSION_DENIED", "STORE_NOT_CONFIGURED")
DISK = pb.StorageConfig(disk=pb.DiskStorage(path="/etc"))
S3 = pb.StorageConfig(s3=pb.S3Storage(bucket="bucket"))


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("Push", push(index_name=""), INVALID, "INDEX_NAME_INVALID"),
        ("Push", push(index_name="n" * 248), INVALID, "INDEX_NAME_INVALID"),
        ("Push", push(index_name="é" * 42), INVALID, "INDEX_NAME_INVALID"),
        ("Push", push(index_name="n" * 60000), INVALID, "INDEX_NAME_INVALID"),
        ("Push", push(blob=None), INVALID, "ENVELOPE_INVALID"),
        ("Create", pb.CreateEnvelopeRequest(index_name="i"), INVALID, "ENVELOPE_INVALID"),
        ("Push", push(blob=blob(provider="vault")), INVALID, "ENVELOPE_INVALID"),
        ("Push", push(blob=blob(provider="none")), INVALID, "ENVELOPE_INVALID"),
        ("Push", push(blob=blob(provider="aws", key_id="")), INVALID, "ENVELOPE_INVALID"),
        ("Push", push(blob=blob(wrapped_kek=b"")), INVALID, "ENVELOPE_INVALID"),
        ("Push", push(blob=blob(wrapped_kek=b"w" * 6145)), INVALID, "ENVELOPE_INVALID"),
        ("Push", push(blob=blob(version=0)), INVALID, "ENVELOPE_INVALID"),
        ("Push", push(if_etag=""), INVALID, "REQUEST_INVALID"),
        ("Push", push(if_etag="stale"), "FAILED_PRECONDITION", "ETAG_MISMATCH"),
        ("Push", push(config_location=DISK), *NOT_CONFIGURED),
        ("Push", push(config_location=S3), *NOT_CONFIGURED),
        ("Push", push(blob=blob(kms_name="k" * 65536)), "RESOURCE_EXHAUSTED", ""),
        ("Get", pb.GetEnvelopeRequest(), INVALID, "INDEX_NAME_INVALID"),
        ("Get", pb.GetEnvelopeRequest(index_name="i"), "NOT_FOUND", "ENVELOPE_NOT_FOUND"),
        ("Delete", pb.DeleteEnvelopeRequest(), INVALID, "INDEX_NAME_INVALID"),
        ("Delete", LOST_ETAG, INVALID, "REQUEST_INVALID"),
        ("List", pb.ListEnvelopesRequest(page_size=-1), INVALID, "REQUEST_INVALID"),
        ("List", pb.ListEnvelopesRequest(page_size=1001), INVALID, "REQUEST_INVALID"),
        ("List", pb.ListEnvelopesRequest(page_token="x"), INVALID, "REQUEST_INVALID"),
        ("List", pb.ListEnvelopesRequest(prefix="p" * 256), INVALID, "INDEX_NAME_INVALID"),
        ("List", pb.ListEnvelopesRequest(config_location=DISK), *NOT_CONFIGURED),
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_nothing_is_written(
    stub: Any, method: str, request_: Any, code: str, reason: str
) -> None:
    call = getattr(stub, f"{method}Envelope{'s' * (method == 'List')}")
    failed, info = failure_of(call, request_)
    assert (failed, info.reason) == (code, reason)
    assert names(stub) == []


def test_default_store_can_be_named(stub: Any) -> None:
    stub.PushEnvelope(push())
    memory = pb.StorageConfig(memory=pb.MemoryStorage())
    request = pb.GetEnvelopeRequest(index_name="i", config_location=memory)
    assert stub.GetEnvelope(request).blob == BLOB


def test_unknown_kind_of_store_is_not_the_default_store(stub: Any) -> None:
    stub.PushEnvelope(push())
    later = pb.StorageConfig.FromString(b"\x22\x00")  # a message as field 4
    request = pb.GetEnvelopeRequest(index_name="i", config_location=later)
    assert failure_of(stub.GetEnvelope, request)[1].reason == "REQUEST_INVALID"


def test_location_that_is_too_long_for_a_path_is_refused(stub: Any) -> None:
    long = pb.StorageConfig(disk=pb.DiskStorage(path="/x" * 20_000))
    request = pb.GetEnvelopeRequest(index_name="i", config_location=long)
    code, info = failure_of(stub.GetEnvelope, request)
    assert (code, info.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert info.metadata["index_name"] == "i"
