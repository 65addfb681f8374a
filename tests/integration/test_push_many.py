"""Pushes of many envelopes in one call have the same results as single pushes."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon, both_engines
from tests.fixtures.s3 import ON_S3, Bucket
from tests.integration.fixtures.watch import OpenWatch, WatchEvent
from tests.integration.fixtures.wire import failure_of
from tests.patience import PATIENCE

OTHER = kekd.KMSBlob(provider="none")
LARGE = kekd.KMSBlob("k" * 200, "aws-kms", "a" * 2000, wrapped_kek=b"\1" * 6144)
MESSAGE = pb.KMSBlob(provider="none")
NOT_AN_ETAG = "not the etag of anything"


@pytest.fixture
def daemon(memory_daemon: Daemon) -> Daemon:
    return memory_daemon


@pytest.fixture(params=["memory", "disk", ON_S3])
def keystore(
    request: pytest.FixtureRequest, start_daemon: StartDaemon, tmp_path: Path
) -> Iterator[kekd.Client]:
    """A client of an empty store of each kind."""
    match request.param:
        case "memory":
            daemon = request.getfixturevalue("memory_daemon")
        case "disk":
            daemon = start_daemon("--disk", str(tmp_path / "keystore"))
        case _:
            bucket: Bucket = request.getfixturevalue("bucket")
            daemon = start_daemon(*bucket.flags)
    with kekd.Client(daemon.address) as client:
        yield client


def test_batch_push_returns_etags_and_failures_in_order(keystore: kekd.Client) -> None:
    old = keystore.create_index_kms(None, "a", OTHER)
    keystore.create_index_kms(None, "b", OTHER)
    pushed = list(
        keystore.push_many_index_kms(
            None,
            [("new", BLOB, None), ("b", BLOB, old + "x"), ("a", BLOB, old), ("none", BLOB, old)],
        )
    )
    assert [name for name, _ in pushed] == ["new", "b", "a", "none"]
    for name, result in (pushed[0], pushed[2]):
        stored = keystore.get_index_kms(None, name)
        assert (stored, stored.etag) == (BLOB, result)
    assert keystore.get_index_kms(None, "b") == OTHER
    assert sorted(keystore.list_index_kms()) == ["a", "b", "new"]
    for name, result in (pushed[1], pushed[3]):
        with pytest.raises(kekd.EtagMismatchError) as single:
            keystore.push_index_kms(None, name, BLOB, if_etag=old + "x")
        assert isinstance(result, kekd.EtagMismatchError)
        assert str(result) == str(single.value)
        assert (result.index_name, result.store) == (name, single.value.store)


def test_pushes_of_one_index_keep_their_order(keystore: kekd.Client) -> None:
    blobs = [kekd.KMSBlob(provider="none", version=version) for version in range(1, 41)]
    names = ["x", "y"] * 20
    pushed = list(
        keystore.push_many_index_kms(
            None, [(name, blob, None) for name, blob in zip(names, blobs, strict=True)]
        )
    )
    last = keystore.get_index_kms(None, "x"), keystore.get_index_kms(None, "y")
    assert [envelope.version for envelope in last] == [39, 40]
    assert [envelope.etag for envelope in last] == [result for _, result in pushed[-2:]]


def test_damaged_record_is_replaced_by_a_push(start_daemon: StartDaemon, tmp_path: Path) -> None:
    with kekd.Client(start_daemon("--disk", str(tmp_path / "keystore")).address) as client:
        (tmp_path / "keystore/_catalog/config/i.kms.cat").write_bytes(b"damaged")
        items = [("i", BLOB, NOT_AN_ETAG), ("i", OTHER, None)]
        (_, refused), (_, etag) = client.push_many_index_kms(None, items)
        assert isinstance(refused, kekd.EtagMismatchError)
        assert client.get_index_kms(None, "i").etag == etag


def test_concurrent_batches_over_one_etag_have_one_winner_for_each_index(
    keystore: kekd.Client,
) -> None:
    batches, names = 64, [f"{number}" for number in range(20)]
    old = {name: keystore.create_index_kms(None, name, OTHER) for name in names}
    start = threading.Barrier(batches)

    def push(batch: int) -> dict[str, str]:
        blob = kekd.KMSBlob(provider="none", version=2 + batch)
        turn = batch % len(names)
        items = [(name, blob, old[name]) for name in (*names[turn:], *names[:turn])]
        start.wait()
        pushed = keystore.push_many_index_kms(None, items, timeout=PATIENCE)
        return {name: result for name, result in pushed if isinstance(result, str)}

    with ThreadPoolExecutor(batches) as threads:
        won = list(threads.map(push, range(batches)))
    assert sorted(name for mine in won for name in mine) == sorted(names)
    for batch, mine in enumerate(won):
        for name, etag in mine.items():
            stored = keystore.get_index_kms(None, name)
            assert (stored.version, stored.etag) == (2 + batch, etag)


def test_watchers_get_every_push(
    daemon: Daemon, client: kekd.Client, open_watch: OpenWatch
) -> None:
    watch = open_watch(daemon)
    items = [("a", BLOB, None), ("refused", BLOB, NOT_AN_ETAG), ("b", BLOB, None)]
    (_, a), _, (_, b) = client.push_many_index_kms(None, items)
    client.push_index_kms(None, "last", BLOB)
    assert set(watch.until("last")[:-1]) == {
        WatchEvent("pushed", "a", str(a)),
        WatchEvent("pushed", "b", str(b)),
    }


# On the wire


@pytest.fixture
def push_batch(daemon: Daemon) -> Iterator[Any]:
    with grpc.insecure_channel(daemon.address) as channel:
        yield EnvelopeServiceStub(channel).BatchPushEnvelopes


def request_of(*pushes: pb.EnvelopePush) -> pb.BatchPushEnvelopesRequest:
    return pb.BatchPushEnvelopesRequest(pushes=pushes)


@pytest.mark.parametrize("count", [0, 1001])
def test_empty_and_oversized_batches_are_refused(
    push_batch: Any, client: kekd.Client, count: int
) -> None:
    pushes = [pb.EnvelopePush(index_name="i", blob=MESSAGE)] * count
    code, info = failure_of(push_batch, request_of(*pushes))
    assert (code, info.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert list(client.list_index_kms()) == []


@both_engines
def test_thousand_pushes_are_stored(push_batch: Any, client: kekd.Client) -> None:
    names = [f"{number:03}" for number in range(1000)]
    pushes = [pb.EnvelopePush(index_name=name, blob=MESSAGE) for name in names]
    answer = push_batch(request_of(*pushes))
    assert [entry.index_name for entry in answer.envelopes] == names
    assert answer.store == "memory"
    expected = {entry.index_name: entry.etag for entry in answer.envelopes}
    stored = {
        name: envelope.etag
        for name, envelope in client.scan_index_kms()
        # Other tests share the daemon, and a write that lost its caller may end after its test.
        if isinstance(envelope, kekd.KMSBlob) and name in expected
    }
    assert stored == expected


BAD = [
    (pb.EnvelopePush(blob=MESSAGE), "INDEX_NAME_INVALID"),
    (pb.EnvelopePush(index_name="n" * 300, blob=MESSAGE), "INDEX_NAME_INVALID"),
    (pb.EnvelopePush(index_name="i"), "ENVELOPE_INVALID"),
    (pb.EnvelopePush(index_name="i", blob=pb.KMSBlob(provider="who")), "ENVELOPE_INVALID"),
    (pb.EnvelopePush(index_name="i", blob=MESSAGE, if_etag=""), "REQUEST_INVALID"),
]


def test_invalid_entry_does_not_fail_the_others(push_batch: Any, client: kekd.Client) -> None:
    good = [pb.EnvelopePush(index_name=f"good-{number}", blob=MESSAGE) for number in range(6)]
    pushes = [
        *(push for pair in zip(good, (bad for bad, _ in BAD), strict=False) for push in pair),
        good[-1],
    ]
    answer = push_batch(request_of(*pushes))
    reasons = [entry.failure.reason for entry in answer.envelopes]
    assert reasons[::2] == [""] * 6
    assert reasons[1::2] == [reason for _, reason in BAD]
    assert [entry.index_name for entry in answer.envelopes] == [push.index_name for push in pushes]
    assert sorted(client.list_index_kms()) == [push.index_name for push in good]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_failure_in_a_batch_equals_that_of_a_push(
    daemon: Daemon, push_batch: Any, bad: pb.EnvelopePush, reason: str
) -> None:
    (entry,) = push_batch(request_of(bad)).envelopes
    single = pb.PushEnvelopeRequest(index_name=bad.index_name)
    if bad.HasField("blob"):
        single.blob.CopyFrom(bad.blob)
    if bad.HasField("if_etag"):
        single.if_etag = bad.if_etag
    with grpc.insecure_channel(daemon.address) as channel:
        push: Any = EnvelopeServiceStub(channel).PushEnvelope
        with pytest.raises(grpc.RpcError) as caught:
            push(single)
    refused: Any = caught.value
    assert (entry.failure.reason, entry.failure.message) == (reason, refused.details())


def test_unknown_store_fails_the_batch(push_batch: Any) -> None:
    request = request_of(pb.EnvelopePush(index_name="i", blob=MESSAGE))
    request.config_location.disk.path = "/elsewhere"
    code, info = failure_of(push_batch, request)
    assert (code, info.reason) == ("PERMISSION_DENIED", "STORE_NOT_CONFIGURED")


# The client's batches


@both_engines
@pytest.mark.parametrize(("blob", "count"), [(OTHER, 2500), (LARGE, 50)])
def test_pushes_beyond_one_request_take_more_calls(
    client: kekd.Client, blob: kekd.KMSBlob, count: int
) -> None:
    items = [(f"{number}", blob, None) for number in range(count)]
    pushed = list(client.push_many_index_kms(None, items))
    assert [name for name, _ in pushed] == [name for name, *_ in items]
    found = list(client.get_many_index_kms(None, [name for name, *_ in items]))
    assert [(name, getattr(envelope, "etag", None)) for name, envelope in found] == pushed
    assert {envelope for _, envelope in found if not isinstance(envelope, kekd.KMSBlob)} == set()


def test_items_are_taken_as_answers_are_read(client: kekd.Client) -> None:
    taken = 0

    def items() -> Iterator[tuple[str, kekd.KMSBlob, None]]:
        nonlocal taken
        while True:
            taken += 1
            yield f"{taken}", OTHER, None

    pushed = client.push_many_index_kms(None, items())
    assert next(pushed)[0] == "1"
    assert taken == 1001


def test_push_of_no_items_makes_no_call() -> None:
    with kekd.Client("unix:/nobody/listens") as client:
        assert list(client.push_many_index_kms(None, [])) == []


def test_entry_that_cannot_be_sent_fails_alone(client: kekd.Client) -> None:
    items = [
        ("a", OTHER, None),
        ("\ud800", OTHER, None),
        ("b", kekd.KMSBlob(provider="none", version=2**32), None),
        ("c", kekd.KMSBlob(provider="none", region="\ud800"), None),
        ("d", OTHER, None),
    ]
    pushed = list(client.push_many_index_kms(None, items))
    assert [name for name, _ in pushed] == ["a", "\ud800", "b", "c", "d"]
    kinds = [type(result) for _, result in pushed]
    assert kinds[1:4] == [
        kekd.InvalidIndexNameError,
        kekd.InvalidEnvelopeError,
        kekd.InvalidEnvelopeError,
    ]
    assert sorted(client.list_index_kms()) == ["a", "d"]


def test_async_client_pushes_a_batch(daemon: Daemon) -> None:
    async def pushed() -> list[Any]:
        async with kekd.AsyncClient(daemon.address) as client:
            items = [("a", OTHER, None), ("\ud800", OTHER, None), ("b", OTHER, NOT_AN_ETAG)]
            return [result async for result in client.push_many_index_kms(None, items)]

    kinds = [type(result) for _, result in asyncio.run(pushed())]
    assert kinds == [str, kekd.InvalidIndexNameError, kekd.EtagMismatchError]
