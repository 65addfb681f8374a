"""S3 that rejects requests, is down, slow or silent, or loses an answer.

Errors name the store, other stores work, and every answer is correct.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.listeners.engine import EngineName
from kekd_server.storage.s3.client import MAX_CONNECTIONS
from tests.fixtures.calls import BLOB, each_call
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.s3 import CREDENTIALS, REGION, Bucket, free_port, make_bucket
from tests.integration.fixtures.proxy import (
    BACKGROUND,
    Fault,
    Proxy,
    StartProxy,
    lose_answer,
    refuse,
    relay,
    s3_error,
    say_nothing,
    web_page,
)
from tests.integration.fixtures.slow_s3 import SlowS3
from tests.patience import PATIENCE, eventually, eventually_async

pytestmark = pytest.mark.faults

OTHER = kekd.KMSBlob(provider="none")
MEMORY = kekd.StorageConfig.memory()
BUCKET, MISSING_BUCKET = "faulty-keystore", "no-such-keystore"
S3 = kekd.StorageConfig.s3(BUCKET)
ATTEMPTS = 2
"""How often the daemon sends one request to S3."""


class Faulty(NamedTuple):
    """A daemon with a bucket behind a proxy, a disk store (the default), and a memory store."""

    daemon: Daemon
    client: kekd.Client
    proxy: Proxy


@contextmanager
def running(root: Path, s3_endpoint: str, proxy: Proxy, engine: EngineName) -> Iterator[Faulty]:
    bucket = replace(make_bucket(s3_endpoint, BUCKET), endpoint=f"http://{proxy.address}")
    stores = ("--disk", str(root / "keystore"), "--memory", "--s3", MISSING_BUCKET, *bucket.flags)
    # The background reads what a history keeps, which tests would count.
    without_history = ("--history-versions", "0")
    daemon = Daemon(root, *stores, *without_history, env=CREDENTIALS, engine=engine)
    try:
        daemon.wait()
        with kekd.Client(daemon.address) as client:
            yield Faulty(daemon, client, proxy)
    finally:
        daemon.kill()


@pytest.fixture(scope="module")
def shared_faulty(
    s3_endpoint: str,
    start_proxy: StartProxy,
    tmp_path_factory: pytest.TempPathFactory,
    engine: EngineName,
) -> Iterator[Faulty]:
    proxy = start_proxy(s3_endpoint.removeprefix("http://"), spared=BACKGROUND)
    with running(tmp_path_factory.mktemp("faulty"), s3_endpoint, proxy, engine) as faulty:
        yield faulty


def is_healthy(client: kekd.Client, name: str) -> bool:
    (store,) = (store for store in client.status().stores if store.name == name)
    return store.healthy


def empty(faulty: Faulty) -> None:
    """Removes the faults and envelopes of earlier tests."""
    faulty.proxy.set_faults()
    # After a failed write, the daemon probes the bucket, which tests would count.
    eventually(lambda: is_healthy(faulty.client, f"s3:{BUCKET}"))
    for store in (None, S3):
        for index in faulty.client.list_index_kms(store):
            faulty.client.delete_index_kms(store, index)


@pytest.fixture
def faulty(shared_faulty: Faulty) -> Faulty:
    """Shared by the tests, and emptied before each."""
    empty(shared_faulty)
    return shared_faulty


@pytest.fixture
def own_faulty(
    s3_endpoint: str, start_proxy: StartProxy, tmp_path: Path, engine: EngineName
) -> Iterator[Faulty]:
    """A daemon of its own for a test that leaves calls to S3 running. Its bucket is the shared one,
    and is emptied before the test.
    """
    proxy = start_proxy(s3_endpoint.removeprefix("http://"), spared=BACKGROUND)
    with running(tmp_path, s3_endpoint, proxy, engine) as own:
        empty(own)
        yield own


# S3 that refuses


@each_call
def test_missing_bucket_is_reported_with_the_name_of_the_store(
    faulty: Faulty, call: Callable[..., Any]
) -> None:
    with pytest.raises(kekd.StoreMisconfiguredError, match="NoSuchBucket") as caught:
        call(faulty.client, kekd.StorageConfig.s3(MISSING_BUCKET))
    assert caught.value.store == f"s3:{MISSING_BUCKET}"


@each_call
def test_refused_credentials_are_reported_with_the_name_of_the_store(
    faulty: Faulty, call: Callable[..., Any]
) -> None:
    faulty.proxy.set_faults(then=s3_error(403, "InvalidAccessKeyId"))
    with pytest.raises(kekd.StoreMisconfiguredError, match="credentials") as caught:
        call(faulty.client, S3)
    assert caught.value.store == f"s3:{BUCKET}"
    faulty.client.push_index_kms(None, "i", BLOB)


def test_missing_credentials_are_reported(start_daemon: StartDaemon, tmp_path: Path) -> None:
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    endpoint = "http://127.0.0.1:1"
    flags = ("--s3", BUCKET, "--s3-region", REGION, "--s3-endpoint", endpoint, "--memory")
    daemon = start_daemon(*flags, env=nowhere)
    with (
        kekd.Client(daemon.address) as client,
        pytest.raises(kekd.StoreMisconfiguredError, match="AWS credentials") as caught,
    ):
        client.get_index_kms(None, "i")
    assert caught.value.store == f"s3:{BUCKET}"


def test_request_can_name_the_region_from_the_aws_chain(
    start_daemon: StartDaemon, bucket: Bucket
) -> None:
    flags = ("--s3", bucket.name, "--s3-endpoint", bucket.endpoint)
    daemon = start_daemon(*flags, env=CREDENTIALS | {"AWS_DEFAULT_REGION": REGION})
    with kekd.Client(daemon.address) as client:
        for region in (None, REGION):
            store = kekd.StorageConfig.s3(
                bucket.name, region=region, endpoint=f"{bucket.endpoint}/"
            )
            client.push_index_kms(store, "i", BLOB)
        with pytest.raises(kekd.PermissionDeniedError):
            client.push_index_kms(kekd.StorageConfig.s3(bucket.name, region="other"), "i", BLOB)


# S3 that is down, slow or flaky


def test_endpoint_that_is_down_is_reported_with_the_store(
    start_daemon: StartDaemon,
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    flags = ("--s3", BUCKET, "--s3-region", REGION, "--s3-endpoint", endpoint, "--memory")
    daemon = start_daemon(*flags, env=CREDENTIALS)
    with kekd.Client(daemon.address) as client:
        with pytest.raises(kekd.UnavailableError) as caught:
            client.create_index_kms(None, "i", BLOB)
        client.create_index_kms(MEMORY, "i", BLOB)
    assert caught.value.store == f"s3:{BUCKET}"


@pytest.mark.parametrize("code", ["ServiceUnavailable", "SlowDown"])
def test_endpoint_that_always_answers_503_is_reported_with_the_store(
    own_faulty: Faulty, code: str
) -> None:
    own_faulty.proxy.set_faults(then=s3_error(503, code))
    with pytest.raises(kekd.UnavailableError, match=code) as caught:
        own_faulty.client.get_index_kms(S3, "i")
    assert caught.value.store == f"s3:{BUCKET}"
    own_faulty.client.push_index_kms(None, "i", BLOB)


@pytest.fixture
def once(faulty: Faulty) -> Iterator[Callable[[str], Any]]:
    """Makes a call for "i" in the bucket without kekd's client and its retries."""
    store = pb.StorageConfig(s3=pb.S3Storage(bucket=BUCKET))
    blob = pb.KMSBlob(provider="none")
    with grpc.insecure_channel(faulty.daemon.address, [("grpc.enable_retries", 0)]) as channel:
        stub: Any = EnvelopeServiceStub(channel)
        calls = {
            "create": lambda: stub.CreateEnvelope(
                pb.CreateEnvelopeRequest(config_location=store, index_name="i", blob=blob)
            ),
            "push": lambda: stub.PushEnvelope(
                pb.PushEnvelopeRequest(config_location=store, index_name="i", blob=blob)
            ),
            "list": lambda: stub.ListEnvelopes(pb.ListEnvelopesRequest(config_location=store)),
        }
        yield lambda name: calls[name]()


@pytest.mark.parametrize("fault", [s3_error(503, "SlowDown"), refuse], ids=["503", "cut"])
def test_failing_endpoint_is_tried_a_few_times(
    faulty: Faulty, once: Callable[[str], Any], fault: Fault
) -> None:
    faulty.proxy.set_faults(then=fault)
    with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        once("list")
    assert faulty.proxy.connections == ATTEMPTS


@pytest.mark.parametrize(("name", "requests"), [("create", 1), ("push", 2), ("list", 1)])
def test_request_that_s3_did_not_apply_is_repeated(
    faulty: Faulty, once: Callable[[str], Any], name: str, requests: int
) -> None:
    faulty.proxy.set_faults(s3_error(503, "ServiceUnavailable"))
    once(name)
    assert faulty.proxy.connections == requests + 1


@pytest.mark.parametrize(("name", "before"), [("create", []), ("push", [relay])])
def test_write_that_conflicts_with_another_is_repeated_after_a_read(
    faulty: Faulty, once: Callable[[str], Any], name: str, before: list[Fault]
) -> None:
    faulty.proxy.set_faults(*before, s3_error(409, "ConditionalRequestConflict"))
    once(name)
    assert faulty.proxy.connections == len(before) + 3
    assert faulty.client.get_index_kms(S3, "i") == OTHER


def test_silent_endpoint_delays_only_its_own_callers(own_faulty: Faulty) -> None:
    own_faulty.proxy.set_faults(then=say_nothing)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(own_faulty.client.get_index_kms, S3, "i", timeout=10)
        for store in (None, MEMORY):
            own_faulty.client.push_index_kms(store, "i", BLOB)
            assert own_faulty.client.get_index_kms(store, "i") == BLOB
        assert not waiting.done()
        with pytest.raises(kekd.DeadlineExceededError):
            waiting.result()


@each_call
def test_timeout_of_a_silent_endpoint_names_the_store(
    own_faulty: Faulty, call: Callable[[kekd.Client, kekd.StorageConfig | None], Any]
) -> None:
    own_faulty.proxy.set_faults(then=say_nothing)
    with (
        kekd.Client(own_faulty.daemon.address, timeout=10) as client,
        pytest.raises(kekd.DeadlineExceededError, match="store timeout") as caught,
    ):
        call(client, S3)
    assert caught.value.store == f"s3:{BUCKET}"


# S3 whose answer is lost


def test_create_whose_answer_was_lost_succeeds(faulty: Faulty) -> None:
    faulty.proxy.set_faults(lose_answer)
    etag = faulty.client.create_index_kms(S3, "i", BLOB)
    assert faulty.proxy.connections == 2  # the write, and a read that finds its id
    stored = faulty.client.get_index_kms(S3, "i")
    assert (stored, stored.etag) == (BLOB, etag)


def test_create_whose_refusal_was_lost_has_an_unknown_outcome(faulty: Faulty) -> None:
    faulty.client.create_index_kms(S3, "i", BLOB)
    faulty.proxy.set_faults(lose_answer)
    with pytest.raises(kekd.OutcomeUnknownError):
        faulty.client.create_index_kms(S3, "i", BLOB)  # equal, but from another call
    assert faulty.client.get_index_kms(S3, "i") == BLOB


def test_create_that_never_reached_s3_has_an_unknown_outcome(faulty: Faulty) -> None:
    faulty.proxy.set_faults(refuse)
    with pytest.raises(kekd.OutcomeUnknownError):
        faulty.client.create_index_kms(S3, "i", BLOB)
    with pytest.raises(kekd.EnvelopeNotFoundError):
        faulty.client.get_index_kms(S3, "i")


def test_push_that_never_reached_s3_is_repeated(faulty: Faulty) -> None:
    faulty.client.create_index_kms(S3, "i", OTHER)
    faulty.proxy.set_faults(relay, refuse)
    faulty.client.push_index_kms(S3, "i", BLOB)
    assert faulty.client.get_index_kms(S3, "i") == BLOB


@pytest.mark.parametrize("condition", ["etag", "none"])
def test_push_whose_answer_was_lost_succeeds(faulty: Faulty, condition: str) -> None:
    old = faulty.client.create_index_kms(S3, "i", OTHER)
    faulty.proxy.set_faults(relay, lose_answer)
    new = faulty.client.push_index_kms(S3, "i", BLOB, if_etag=old if condition == "etag" else None)
    stored = faulty.client.get_index_kms(S3, "i")
    assert (stored, stored.etag) == (BLOB, new)


def test_push_whose_answer_was_lost_does_not_undo_a_later_one(faulty: Faulty) -> None:
    """A rival replaces the envelope between the lost answer and the daemon's next request."""
    faulty.client.create_index_kms(S3, "i", OTHER)
    third = kekd.KMSBlob(provider="none", version=3)

    def lose_and_replace(client: socket.socket, server: socket.socket) -> None:
        faulty.proxy.set_faults()
        lose_answer(client, server)
        faulty.client.push_index_kms(S3, "i", third)

    faulty.proxy.set_faults(relay, lose_and_replace)
    with pytest.raises(kekd.OutcomeUnknownError):
        faulty.client.push_index_kms(S3, "i", BLOB)
    assert faulty.client.get_index_kms(S3, "i") == third


def test_conditional_push_after_a_rival_push_is_refused(faulty: Faulty) -> None:
    stale = faulty.client.create_index_kms(S3, "i", OTHER)
    faulty.client.push_index_kms(S3, "i", BLOB)
    faulty.proxy.set_faults(lose_answer)
    with pytest.raises(kekd.EtagMismatchError):
        faulty.client.push_index_kms(S3, "i", BLOB, if_etag=stale)


def test_create_is_decided_when_s3_is_readable_again(faulty: Faulty) -> None:
    unavailable = s3_error(503, "ServiceUnavailable")
    faulty.proxy.set_faults(lose_answer, *[unavailable] * ATTEMPTS)
    faulty.client.create_index_kms(S3, "i", BLOB, timeout=PATIENCE)
    assert faulty.client.get_index_kms(S3, "i") == BLOB


def test_delete_whose_answer_was_lost_succeeds(faulty: Faulty) -> None:
    faulty.client.create_index_kms(S3, "i", BLOB)
    faulty.proxy.set_faults(relay, lose_answer)
    assert faulty.client.delete_index_kms(S3, "i")
    with pytest.raises(kekd.EnvelopeNotFoundError):
        faulty.client.get_index_kms(S3, "i")


# Something else in the place of S3


def test_many_calls_to_another_server_log_few_lines(own_faulty: Faulty) -> None:
    own_faulty.proxy.set_faults(then=web_page)
    before = len(own_faulty.daemon.read_log().splitlines())
    for number in range(20):
        with pytest.raises(kekd.UnavailableError, match="not from S3: HTTP 200 OK, text/html"):
            own_faulty.client.get_index_kms(S3, f"i{number}", timeout=1)
    lines = own_faulty.daemon.read_log().splitlines()[before:]
    assert len(lines) <= 5
    assert not any("Traceback" in line for line in lines)


def test_list_from_another_server_fails_and_finds_nothing_missing(own_faulty: Faulty) -> None:
    own_faulty.client.create_index_kms(S3, "i", BLOB)
    own_faulty.proxy.set_faults(then=web_page)
    with pytest.raises(kekd.UnavailableError, match="not from S3"):
        list(own_faulty.client.list_index_kms(S3))
    own_faulty.proxy.set_faults()
    assert list(own_faulty.client.list_index_kms(S3)) == ["i"]


async def test_many_waiting_callers_do_not_make_the_store_look_down(
    start_daemon: StartDaemon, slow_s3: SlowS3
) -> None:
    """The check of the store has a thread and a connection of its own."""
    daemon = start_daemon(*slow_s3.flags, env=CREDENTIALS)
    async with (
        kekd.AsyncClient(daemon.address, timeout=PATIENCE) as client,
        kekd.AsyncClient(daemon.address) as observer,
    ):
        calls = [asyncio.create_task(client.get_index_kms(None, "i")) for _ in range(600)]
        await eventually_async(lambda: slow_s3.requests >= MAX_CONNECTIONS // 2)
        enough = slow_s3.checks + 3
        while slow_s3.checks < enough:
            (store,) = (await observer.status()).stores
            assert store.healthy
            await asyncio.sleep(0.05)
        slow_s3.answer.set()
        assert all(found.provider == "none" for found in await asyncio.gather(*calls))


def test_bucket_that_is_created_again_is_used_again(
    start_daemon: StartDaemon, s3_endpoint: str
) -> None:
    bucket = make_bucket(s3_endpoint, "removed")
    daemon = start_daemon(*bucket.flags, env=CREDENTIALS)
    with kekd.Client(daemon.address) as client:
        bucket.s3.delete_object(Bucket=bucket.name, Key="_kekd/keystore")
        bucket.s3.delete_bucket(Bucket=bucket.name)
        with pytest.raises(kekd.StoreMisconfiguredError, match="NoSuchBucket"):
            client.create_index_kms(None, "i", BLOB)
        bucket.s3.create_bucket(Bucket=bucket.name)
        bucket.s3.put_object(Bucket=bucket.name, Key="_kekd/keystore")
        client.create_index_kms(None, "i", BLOB)
        assert client.get_index_kms(None, "i") == BLOB
