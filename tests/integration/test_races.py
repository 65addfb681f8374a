"""Concurrent callers of two daemons on one store: no write is lost, duplicated or torn."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_schema import Envelope, decode, encode
from tests.fixtures.daemon import StartDaemon
from tests.fixtures.s3 import Bucket
from tests.patience import PATIENCE

pytestmark = pytest.mark.torture


class Shared(NamedTuple):
    """Two daemons on one store, and raw access to the store."""

    clients: list[kekd.Client]
    stubs: list[Any]
    read: Callable[[str], bytes | None]


@pytest.fixture(
    params=[
        pytest.param(("disk", "grpcio"), id="disk-grpcio"),
        pytest.param(("disk", "native"), id="disk-native"),
        pytest.param(("s3", "auto"), id="s3", marks=pytest.mark.s3),
    ]
)
def shared(request: pytest.FixtureRequest, start_daemon: StartDaemon) -> Iterator[Shared]:
    store, engine = request.param
    if store == "disk":
        folder: Path = request.getfixturevalue("tmp_path") / "keystore"
        flags: tuple[str, ...] = ("--disk", str(folder))

        def read(index: str) -> bytes | None:
            with suppress(FileNotFoundError):
                return (folder / "_catalog" / "config" / f"{index}.kms.cat").read_bytes()
            return None

    else:
        bucket: Bucket = request.getfixturevalue("bucket")
        flags = bucket.flags

        def read(index: str) -> bytes | None:
            key = f"_catalog/config/{index}.kms.cat"
            with suppress(bucket.s3.exceptions.NoSuchKey):
                return bucket.s3.get_object(Bucket=bucket.name, Key=key)["Body"].read()
            return None

    daemons = [start_daemon("--engine", engine, *flags, name=name) for name in ("one", "other")]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(kekd.Client(daemon.address, timeout=PATIENCE)) for daemon in daemons
        ]
        channels = [
            stack.enter_context(grpc.insecure_channel(daemon.address)) for daemon in daemons
        ]
        stubs = [EnvelopeServiceStub(channel) for channel in channels]
        yield Shared(clients, stubs, read)


def all_at_once(*works: Callable[[], Any]) -> list[Any]:
    """Runs each in a thread of its own, and returns the results."""
    with ThreadPoolExecutor(len(works)) as threads:
        futures: list[Future[Any]] = [threads.submit(work) for work in works]
    return [future.result() for future in futures]


@contextmanager
def ending(over: threading.Event) -> Iterator[None]:
    """Sets `over` when the block ends, also by an exception."""
    try:
        yield
    finally:
        over.set()


def blob_of(writer: str, version: int) -> kekd.KMSBlob:
    """Derives every value from the arguments, so that a mixture of two blobs is detectable."""
    digest = hashlib.sha256(f"{writer} {version}".encode()).digest()
    return kekd.KMSBlob(writer, "aws-kms", digest.hex(), "", digest * 30, version)


def is_whole(envelope: Envelope) -> bool:
    blob = blob_of(envelope.kms_name, envelope.version)
    return (envelope.key_id, envelope.wrapped_kek) == (blob.key_id, blob.wrapped_kek)


def record_of(blob: kekd.KMSBlob) -> bytes:
    return encode(
        Envelope(
            kms_name=blob.kms_name,
            provider=blob.provider,
            key_id=blob.key_id,
            wrapped_kek=blob.wrapped_kek,
            version=blob.version,
        )
    )


class Contest(NamedTuple):
    creators: int
    indexes: int
    refusals: tuple[type[kekd.EnvelopeError], ...]
    """The errors of creators that lose."""


@pytest.fixture
def contest(pytestconfig: pytest.Config) -> Contest:
    if pytestconfig.getoption("--s3-server") == "seaweedfs":
        # Of 32 simultaneous writes to a key, the last waits 13 s for the lock of SeaweedFS. The
        # daemon waits 5 s for a response, and then may not know the outcome.
        return Contest(32, 5, (kekd.EnvelopeExistsError, kekd.OutcomeUnknownError))
    return Contest(64, 50, (kekd.EnvelopeExistsError,))


def test_strict_create_has_exactly_one_winner(shared: Shared, contest: Contest) -> None:
    creators, names = contest.creators, [f"index-{number}" for number in range(contest.indexes)]
    start = threading.Barrier(creators, timeout=PATIENCE)

    def create(creator: int) -> list[str]:
        client, won = shared.clients[creator % 2], []
        for name in names:
            start.wait()
            try:
                client.create_index_kms(None, name, blob_of(f"creator-{creator}", 1))
            except contest.refusals:
                continue
            won.append(name)
        return won

    won = all_at_once(*(lambda number=number: create(number) for number in range(creators)))
    assert sorted(name for names_won in won for name in names_won) == sorted(names)
    for creator, names_won in enumerate(won):
        record = record_of(blob_of(f"creator-{creator}", 1))
        assert all(shared.read(name) == record for name in names_won)


def rotate(client: kekd.Client, writer: str, times: int) -> None:
    """Rotates like a program that must not undo another rotation."""
    done = 0
    while done < times:
        try:
            old = client.get_index_kms(None, "i")
            new = blob_of(writer, old.version + 1)
            client.push_index_kms(None, "i", new, if_etag=old.etag)
        except (kekd.EtagMismatchError, kekd.EnvelopeNotFoundError):
            continue
        done += 1


def test_concurrent_rotators_lose_no_change(shared: Shared) -> None:
    one, other = shared.clients
    times = 100
    one.create_index_kms(None, "i", blob_of("start", 1))
    all_at_once(lambda: rotate(one, "one", times), lambda: rotate(other, "other", times))
    assert one.get_index_kms(None, "i").version == 1 + 2 * times


@pytest.mark.parametrize("interference", ["push", "delete"])
def test_no_interference_tears_a_record(shared: Shared, interference: str) -> None:
    one, other = shared.clients
    times = 100
    over = threading.Event()
    one.create_index_kms(None, "i", blob_of("start", 1))

    def write() -> None:
        with ending(over):
            all_at_once(
                lambda: rotate(one, "one", times), lambda: rotate(other, "other", times), interfere
            )

    def interfere() -> None:
        for version in range(1000, 1000 + times):
            # On a busy S3, a request is sent again, and the rotators may have replaced the first.
            with suppress(kekd.OutcomeUnknownError):
                if interference == "delete":
                    one.delete_index_kms(None, "i")
                other.push_index_kms(None, "i", blob_of("pusher", version))

    def read() -> int:
        seen = 0
        while not over.is_set():
            if record := shared.read("i"):
                assert is_whole(decode(record))
                seen += 1
        return seen

    assert all_at_once(write, read)[1]


def pages(stubs: list[Any], size: int) -> Iterator[str]:
    """Yields the pages of a listing, each from the next stub."""
    request = pb.ListEnvelopesRequest(page_size=size)
    while True:
        answer = stubs[0].ListEnvelopes(request)
        yield from (listed.index_name for listed in answer.envelopes)
        if not answer.next_page_token:
            return
        assert answer.next_page_token != request.page_token, "the listing doesn't go on"
        request.page_token = answer.next_page_token
        stubs = [*stubs[1:], stubs[0]]


@pytest.mark.parametrize("daemons", [1, 2])
def test_listing_during_changes_has_each_lasting_index_once(shared: Shared, daemons: int) -> None:
    one, other = shared.clients
    lasting = [f"{number:02}-lasting" for number in range(40)]
    passing = [f"{number:02}-passing" for number in range(40)]
    for name in lasting:
        one.create_index_kms(None, name, blob_of("start", 1))
    over = threading.Event()

    def create_and_delete() -> None:
        while not over.is_set():
            for name in passing:
                other.create_index_kms(None, name, blob_of("passing", 1))
            for name in passing:
                one.delete_index_kms(None, name)

    def list_them() -> None:
        with ending(over):
            for _ in range(40):
                listed = list(pages(shared.stubs[:daemons], 7))
                assert [name for name in listed if name in lasting] == lasting
                assert len(listed) == len(set(listed))

    all_at_once(create_and_delete, list_them)


def test_listing_continued_at_another_daemon_misses_nothing(shared: Shared) -> None:
    client = shared.clients[0]
    for name in ("a", "c", "d"):
        client.create_index_kms(None, name, blob_of("start", 1))
    next(pages(shared.stubs[1:], 1))  # an unfinished listing there
    client.create_index_kms(None, "b", blob_of("start", 1))
    assert list(pages(shared.stubs, 1)) == ["a", "b", "c", "d"]


def test_equal_creates_that_wait_for_a_daemon_have_one_winner(
    start_daemon: StartDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kekd._transport.retries._MAX_FIRST_ATTEMPTS", 10**6)
    flags = ("--disk", str(tmp_path / "keystore"))
    address = start_daemon(*flags).address
    start_daemon(*flags, name="other").stop()
    start = threading.Barrier(9)

    def create(_: int) -> bool:
        with kekd.Client(address.replace("/daemon/", "/other/"), timeout=PATIENCE) as client:
            start.wait()
            try:
                client.create_index_kms(None, "i", kekd.KMSBlob(provider="none"))
            except kekd.EnvelopeExistsError:
                return False
            return True

    with ThreadPoolExecutor(8) as threads:
        outcomes = threads.map(create, range(8))
        start.wait()
        start_daemon(*flags, name="other")
        assert sum(outcomes) == 1


def test_restart_under_load_loses_and_fails_nothing(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    flags = ("--disk", str(tmp_path / "keystore"))
    daemon = start_daemon(*flags)
    over, have_connected = threading.Event(), threading.Barrier(17)

    def create(number: int) -> list[str]:
        created: list[str] = []
        with kekd.Client(daemon.address, timeout=PATIENCE) as client:
            client.wait(PATIENCE)
            have_connected.wait(PATIENCE)
            while not over.is_set():
                created.append(f"{number}-{len(created)}")
                client.create_index_kms(None, created[-1], kekd.KMSBlob(provider="none"))
        return created

    with ThreadPoolExecutor(16) as threads:
        creators = [threads.submit(create, number) for number in range(16)]
        have_connected.wait(PATIENCE)
        for _ in range(3):
            daemon.stop()
            daemon = start_daemon(*flags)
        over.set()
        created = {name for creator in creators for name in creator.result()}
    with kekd.Client(daemon.address) as client:
        assert set(client.list_index_kms()) == created
