"""Many envelopes in one call: by name, or in a page of a listing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

import kekd
from kekd_common.limits import MAX_TEXT_BYTES, MAX_WRAPPED_KEK_BYTES
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.rpc.envelope_reader import MAX_RESPONSE_BYTES
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.s3 import ON_S3, Bucket
from tests.integration.fixtures.wire import failure_of
from tests.patience import PATIENCE

BLOB = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", b"\1\2\3", 7, 1_700_000_000)


class Keystore(NamedTuple):
    """A store in which "a" and "c" are valid and "b" is damaged."""

    client: kekd.Client
    address: str
    name: str


@pytest.fixture(params=["disk", ON_S3])
def keystore(
    request: pytest.FixtureRequest, start_daemon: StartDaemon, tmp_path: Path
) -> Iterator[Keystore]:
    damaged = "_catalog/config/b.kms.cat"
    if request.param == "disk":
        folder = tmp_path / "keystore"
        daemon, name = start_daemon("--disk", str(folder)), f"disk:{folder}"
        (folder / damaged).write_bytes(b"damaged")
    else:
        bucket: Bucket = request.getfixturevalue("bucket")
        daemon, name = start_daemon(*bucket.flags), f"s3:{bucket.name}"
        bucket.s3.put_object(Bucket=bucket.name, Key=damaged, Body=b"damaged")
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "a", BLOB)
        client.create_index_kms(None, "c", BLOB)
        yield Keystore(client, daemon.address, name)


def kinds(found: list[tuple[str, Any]]) -> list[tuple[str, type]]:
    return [(name, type(result)) for name, result in found]


def test_each_name_has_its_envelope_or_its_failure(keystore: Keystore) -> None:
    names = ["c", "missing", "b", "a", "c"]
    found = list(keystore.client.get_many_index_kms(None, names))
    assert kinds(found) == [
        ("c", kekd.KMSBlob),
        ("missing", kekd.EnvelopeNotFoundError),
        ("b", kekd.CorruptEnvelopeError),
        ("a", kekd.KMSBlob),
        ("c", kekd.KMSBlob),
    ]
    for name, result in found:
        assert result == BLOB if isinstance(result, kekd.KMSBlob) else result.index_name == name
        assert result.store == keystore.name
    assert str(found[1][1]) == "No KMS blob exists for index 'missing'."


def test_batch_returns_the_same_envelopes_as_get(keystore: Keystore) -> None:
    ((_, one),) = keystore.client.get_many_index_kms(None, ["a"])
    assert isinstance(one, kekd.KMSBlob)
    got = keystore.client.get_index_kms(None, "a")
    assert (one, one.etag, one.store) == (got, got.etag, got.store)


def test_scan_is_a_listing_with_the_envelopes(keystore: Keystore) -> None:
    found = list(keystore.client.scan_index_kms())
    assert kinds(found) == [
        ("a", kekd.KMSBlob),
        ("b", kekd.CorruptEnvelopeError),
        ("c", kekd.KMSBlob),
    ]
    assert [name for name, _ in keystore.client.scan_index_kms(prefix="c")] == ["c"]


def test_async_client_can_batch_and_scan(keystore: Keystore) -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        async with kekd.AsyncClient(keystore.address) as client:
            many = [result async for result in client.get_many_index_kms(None, ["a", "missing"])]
            return many, [result async for result in client.scan_index_kms()]

    many, scanned = asyncio.run(both())
    assert kinds(many) == [("a", kekd.KMSBlob), ("missing", kekd.EnvelopeNotFoundError)]
    assert kinds(scanned) == kinds(list(keystore.client.scan_index_kms()))


@pytest.fixture
def client(memory_daemon: Daemon) -> Iterator[kekd.Client]:
    with kekd.Client(memory_daemon.address) as client:
        yield client


@pytest.mark.parametrize("length", [5, 240])
def test_names_beyond_one_request_take_more_calls(client: kekd.Client, length: int) -> None:
    names = [f"{number:0{length}}" for number in range(2500)]
    client.create_index_kms(None, names[-1], BLOB)
    found = list(client.get_many_index_kms(None, names))
    assert [name for name, _ in found] == names
    assert [isinstance(result, kekd.KMSBlob) for _, result in found] == [False] * 2499 + [True]


def test_page_of_the_largest_envelopes_is_read(client: kekd.Client) -> None:
    text = "t" * MAX_TEXT_BYTES
    large = kekd.KMSBlob(
        text, "aws-kms", text, text, b"\1" * MAX_WRAPPED_KEK_BYTES, key_arn=text, binding=text
    )
    names = [f"{number:0239}" for number in range(1000)]
    for name in names:
        client.push_index_kms(None, name, large)
    assert [result for _, result in client.scan_index_kms()] == [large] * 1000
    assert [result for _, result in client.get_many_index_kms(None, names)] == [large] * 1000


@pytest.fixture
def stub(client: kekd.Client) -> Iterator[Any]:
    """A stub with gRPC's default limit on received messages, 4 MiB."""
    with grpc.insecure_channel(client.address) as channel:
        yield EnvelopeServiceStub(channel)


LARGE = kekd.KMSBlob("prod", "aws-kms", "k" * 4096, "", b"\1" * MAX_WRAPPED_KEK_BYTES)


def test_repeated_name_is_answered_once(client: kekd.Client, stub: Any) -> None:
    client.push_index_kms(None, "a", BLOB)
    names = [*["a"] * 500, "missing", *["a"] * 499]
    answer = stub.BatchGetEnvelopes(pb.BatchGetEnvelopesRequest(index_names=names))
    assert [entry.index_name for entry in answer.envelopes] == ["a", "missing"]
    found = list(client.get_many_index_kms(None, names))
    assert [name for name, _ in found] == names
    first, second = found[0][1], found[1][1]
    assert first == second == BLOB
    assert first is not second


def test_batch_returns_as_many_envelopes_as_fit(client: kekd.Client, stub: Any) -> None:
    names = [f"{number:03}" for number in range(200)]
    for name in names:
        client.push_index_kms(None, name, LARGE)
    answer = stub.BatchGetEnvelopes(pb.BatchGetEnvelopesRequest(index_names=names))
    assert [entry.index_name for entry in answer.envelopes] == names
    full = [entry.failure.reason == "RESPONSE_FULL" for entry in answer.envelopes]
    answered = full.count(False)
    assert full == [False] * answered + [True] * (200 - answered)
    assert MAX_RESPONSE_BYTES * 0.9 < answer.ByteSize() < MAX_RESPONSE_BYTES * 1.1
    assert [result for _, result in client.get_many_index_kms(None, names)] == [LARGE] * 200


@pytest.mark.parametrize("page_size", [0, 150])
def test_full_page_ends_when_it_has_no_room(client: kekd.Client, stub: Any, page_size: int) -> None:
    names = [f"i-{number:03}" for number in range(200)]
    for name in names:
        client.push_index_kms(None, name, LARGE)
    listed, request = (
        [],
        pb.ListEnvelopesRequest(prefix="i-", view=pb.ENVELOPE_VIEW_FULL, page_size=page_size),
    )
    while True:
        page = stub.ListEnvelopes(request)
        assert page.ByteSize() < MAX_RESPONSE_BYTES * 1.1
        listed += [entry.index_name for entry in page.envelopes]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == names


def test_get_of_no_names_makes_no_call(client: kekd.Client) -> None:
    assert list(client.get_many_index_kms(None, [])) == []


@pytest.mark.parametrize("count", [0, 1001])
def test_empty_and_oversized_batches_are_refused(client: kekd.Client, count: int) -> None:
    with grpc.insecure_channel(client.address) as channel:
        call: Any = EnvelopeServiceStub(channel).BatchGetEnvelopes
        request = pb.BatchGetEnvelopesRequest(index_names=["i"] * count)
        code, info = failure_of(call, request)
    assert (code, info.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")


@pytest.mark.parametrize("name", ["", "a" * 300])
def test_invalid_name_fails_alone(client: kekd.Client, name: str) -> None:
    client.push_index_kms(None, "a", BLOB)
    (_, bad), (_, good) = client.get_many_index_kms(None, [name, "a"])
    assert isinstance(bad, kekd.InvalidIndexNameError)
    assert good == BLOB


@pytest.mark.parametrize(
    ("name", "error"), [("\ud800", kekd.InvalidArgumentError), (None, TypeError)]
)
def test_name_that_is_no_text_is_refused(
    client: kekd.Client, name: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        list(client.get_many_index_kms(None, ["a", name]))


@pytest.mark.slow
def test_thousands_of_envelopes_on_s3_are_listed_and_read_once(
    start_daemon: StartDaemon, bucket: Bucket
) -> None:
    """They take several pages of S3, which have 1,000 keys each."""
    names = [f"{number:04}" for number in range(5000)]
    with kekd.Client(start_daemon(*bucket.flags).address, timeout=PATIENCE) as client:
        pushed = dict(client.push_many_index_kms(None, ((name, BLOB, None) for name in names)))
        assert list(pushed) == names
        assert list(client.list_index_kms()) == names
        assert list(client.list_index_kms(prefix="49")) == names[4900:]
        scanned = list(client.scan_index_kms())
        assert [name for name, _ in scanned] == names
        found = dict(client.get_many_index_kms(None, reversed(names)))
    for results in (dict(scanned), found):
        assert {name: getattr(result, "etag", result) for name, result in results.items()} == pushed
