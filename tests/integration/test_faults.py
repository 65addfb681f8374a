"""Stores that are full, gone, forbidden, damaged or silent: each failure names its store, nothing
else suffers, and the daemon goes on.
"""

import errno
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_schema import Envelope, encode
from kekd_server.errors import KekdError, StoreUnusableError
from kekd_server.names import IndexName, NamePrefix
from kekd_server.storage.disk import DiskDriver
from kekd_server.storage.location import DiskLocation
from kekd_server.storage.store import Store
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.proxy import (
    Fault,
    Proxy,
    StartProxy,
    lose_answer,
    refuse,
    relay,
    s3_error,
    say_nothing,
)
from tests.fixtures.s3 import CREDENTIALS, REGION, free_port
from tests.fixtures.wire import failure_of

BLOB = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", b"\1\2\3", 7, 1_700_000_000)
OTHER = kekd.KMSBlob(provider="none")
ENVELOPE = Envelope(provider="aws-kms", key_id="k", wrapped_kek=b"\1" * 1000, version=1)
RECORD = encode(ENVELOPE)
MEMORY = kekd.StorageConfig.memory()
BUCKET, MISSING_BUCKET = "faulty-keystore", "no-such-keystore"
S3 = kekd.StorageConfig.s3(BUCKET)
ATTEMPTS = 2
"""How often the daemon sends one request to S3."""

CALLS: dict[str, Callable[[kekd.Client, kekd.StorageConfig | None], Any]] = {
    "create": lambda client, store: client.create_index_kms(store, "i", BLOB),
    "push": lambda client, store: client.push_index_kms(store, "i", BLOB),
    "get": lambda client, store: client.get_index_kms(store, "i"),
    "delete": lambda client, store: client.delete_index_kms(store, "i"),
    "list": lambda client, store: list(client.list_index_kms(store)),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


# A disk that is full or may not be written


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """64 KiB of disk: a real one where we may mount it, else writing fails when that is used up."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = 64 * 1024
    mount = f"mount -t tmpfs -o size={size} tmpfs {disk}"
    if subprocess.run(["sh", "-c", mount], capture_output=True, check=False).returncode == 0:
        yield disk
        subprocess.run(["umount", disk], check=True)
        return

    def write(file: int, content: bytes, write: Callable[[int, bytes], int] = os.write) -> int:
        used = sum(path.stat().st_size for path in disk.rglob("*"))
        if used + len(content) > size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, content)

    monkeypatch.setattr(os, "write", write)
    yield disk


def disk_store(folder: Path) -> Store:
    driver = DiskDriver(folder)
    return Store(DiskLocation(str(folder)), driver, threads=1, inline_get=True)


async def fill(store: Store) -> tuple[list[IndexName], KekdError]:
    """What could be created, and the error that ended it."""
    created: list[IndexName] = []
    while True:
        name = IndexName(f"{len(created):03}")
        try:
            await store.create(name, ENVELOPE)
        except KekdError as error:
            return created, error
        created.append(name)


async def test_a_full_disk_is_told_with_the_stores_name(small_disk: Path) -> None:
    store = disk_store(small_disk)
    _, error = await fill(store)
    assert isinstance(error, StoreUnusableError)
    assert error.store == f"disk:{small_disk}"
    assert "No space left on device" in str(error)
    store.close()


async def test_a_full_disk_loses_and_tears_nothing(small_disk: Path) -> None:
    store = disk_store(small_disk)
    created, _ = await fill(store)
    assert len(created) > 5
    rotated = Envelope(provider="aws-kms", key_id="k", wrapped_kek=b"\2" * 6000, version=2)
    with pytest.raises(StoreUnusableError):
        await store.put(created[0], rotated, if_etag=None)
    assert await store.list(NamePrefix(""), None, 1000, listing="l") == created
    assert {(await store.get(name)).envelope for name in created} == {ENVELOPE}
    assert not os.listdir(small_disk / "_kekd" / "tmp")  # noqa: PTH208
    store.close()


async def test_a_disk_with_room_again_serves_again(small_disk: Path) -> None:
    store = disk_store(small_disk)
    created, _ = await fill(store)
    assert await store.delete(created[0], if_etag=None)
    await store.create(created[0], ENVELOPE)
    store.close()


@pytest.fixture
def read_only_keystore() -> Iterator[Path]:
    """A keystore with one envelope that this process may read but not write.

    root may write anything, so for a while this process isn't root; pytest's own folders can't be
    entered then.
    """
    with tempfile.TemporaryDirectory() as name:
        keystore = Path(name)
        driver = DiskDriver(keystore)
        driver.put(IndexName("i"), RECORD, if_etag=None)
        paths = [keystore, *keystore.rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            yield keystore
        finally:
            os.seteuid(user)
            for path in paths:
                path.chmod(0o700)


async def test_a_folder_that_may_not_be_written_can_still_be_read(read_only_keystore: Path) -> None:
    store = disk_store(read_only_keystore)
    assert (await store.get(IndexName("i"))).envelope == ENVELOPE
    assert await store.list(NamePrefix(""), None, 10, listing="l") == [IndexName("i")]
    store.close()


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.create(IndexName("new"), ENVELOPE),
        lambda store: store.put(IndexName("i"), ENVELOPE, if_etag=None),
        lambda store: store.delete(IndexName("i"), if_etag=None),
    ],
    ids=["create", "put", "delete"],
)
async def test_a_folder_that_may_not_be_written_is_told_with_the_stores_name(
    read_only_keystore: Path, write: Callable[[Store], Any]
) -> None:
    store = disk_store(read_only_keystore)
    with pytest.raises(StoreUnusableError, match="Permission denied") as caught:
        await write(store)
    assert caught.value.store == f"disk:{read_only_keystore}"
    assert await store.list(NamePrefix(""), None, 10, listing="l") == [IndexName("i")]
    store.close()


def test_a_keystore_that_cannot_be_made_is_told_at_start(read_only_keystore: Path) -> None:
    with pytest.raises(StoreUnusableError, match="Permission denied"):
        DiskDriver(read_only_keystore / "new")


# A folder that goes away under the daemon


class Vanishing(NamedTuple):
    client: kekd.Client
    folder: Path
    hidden: Path


@pytest.fixture
def vanishing(start_daemon: StartDaemon, tmp_path: Path) -> Iterator[Vanishing]:
    folder = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(folder), "--memory")
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "kept", BLOB)
        yield Vanishing(client, folder, tmp_path / "hidden")


@pytest.mark.parametrize("mount_point", [False, True], ids=["nothing left", "empty mount point"])
def test_a_folder_that_is_gone_is_no_empty_keystore(
    vanishing: Vanishing, mount_point: bool
) -> None:
    client, folder, hidden = vanishing
    folder.rename(hidden)
    if mount_point:
        folder.mkdir()
    for call in CALLS.values():
        with pytest.raises(kekd.StoreUnusableError, match="is its volume mounted") as caught:
            call(client, None)
        assert caught.value.store == f"disk:{folder}"
    assert list(folder.rglob("*")) == []
    client.push_index_kms(MEMORY, "i", BLOB)


def test_a_folder_that_comes_back_is_served_as_before(vanishing: Vanishing) -> None:
    client, folder, hidden = vanishing
    folder.rename(hidden)
    with pytest.raises(kekd.StoreUnusableError):
        client.get_index_kms(None, "kept")
    hidden.rename(folder)
    assert client.get_index_kms(None, "kept") == BLOB
    client.create_index_kms(None, "i", BLOB)


# Stored files that are damaged


class Keystore(NamedTuple):
    """One store of the daemon, and raw access to it."""

    config: kekd.StorageConfig
    name: str
    write: Callable[[str, bytes], Any]
    read: Callable[[str], bytes]


class Faulty(NamedTuple):
    """A daemon whose bucket is behind a proxy; it also has a disk, the default, and a memory."""

    daemon: Daemon
    client: kekd.Client
    proxy: Proxy
    s3: Any
    folder: Path


@contextmanager
def running(root: Path, s3_endpoint: str, proxy: Proxy) -> Iterator[Faulty]:
    s3 = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    s3.create_bucket(Bucket=BUCKET)
    buckets = ("--s3", BUCKET, "--s3", MISSING_BUCKET)
    where = ("--s3-region", REGION, "--s3-endpoint", f"http://{proxy.address}")
    stores = ("--disk", str(root / "keystore"), "--memory", *buckets, *where)
    daemon = Daemon(root, *stores, env=CREDENTIALS)
    try:
        daemon.wait()
        with kekd.Client(daemon.address) as client:
            yield Faulty(daemon, client, proxy, s3, root / "keystore" / "_catalog" / "config")
    finally:
        daemon.kill()


@pytest.fixture(scope="module")
def shared_faulty(
    s3_endpoint: str, start_proxy: StartProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Faulty]:
    proxy = start_proxy(s3_endpoint.removeprefix("http://"))
    with running(tmp_path_factory.mktemp("faulty"), s3_endpoint, proxy) as faulty:
        yield faulty


@pytest.fixture
def faulty(shared_faulty: Faulty) -> Iterator[Faulty]:
    """Shared by the tests, and empty at the start of each."""
    yield shared_faulty
    shared_faulty.proxy.tell()
    for store in (None, S3):
        for index in shared_faulty.client.list_index_kms(store):
            shared_faulty.client.delete_index_kms(store, index)


@pytest.fixture
def own_faulty(s3_endpoint: str, start_proxy: StartProxy, tmp_path: Path) -> Iterator[Faulty]:
    """For a test that leaves calls to S3 behind it, which go on trying."""
    with running(tmp_path, s3_endpoint, start_proxy(s3_endpoint.removeprefix("http://"))) as own:
        yield own


@pytest.fixture(params=["disk", "s3"])
def keystore(faulty: Faulty, request: pytest.FixtureRequest) -> Keystore:
    folder, s3, key = faulty.folder, faulty.s3, "_catalog/config/{}.kms.cat".format
    if request.param == "disk":
        config = kekd.StorageConfig.disk(str(folder.parent.parent))
        return Keystore(
            config,
            f"disk:{config.path}",
            lambda index, content: (folder / f"{index}.kms.cat").write_bytes(content),
            lambda index: (folder / f"{index}.kms.cat").read_bytes(),
        )
    return Keystore(
        S3,
        f"s3:{BUCKET}",
        lambda index, content: s3.put_object(Bucket=BUCKET, Key=key(index), Body=content),
        lambda index: s3.get_object(Bucket=BUCKET, Key=key(index))["Body"].read(),
    )


DAMAGED = {
    "empty": b"",
    "one byte": b"\x10",
    "truncated": RECORD[:-8],
    "random": bytes(byte * 7 % 251 for byte in range(300)),
    "root before the start": b"\xff" * 4 + RECORD[4:],
    "root past the end": b"\xff\xff\xff\x7f" + RECORD[4:],
    "a flipped bit in the key": RECORD.replace(b"\1" * 1000, b"\1" * 999 + b"\3"),
    "10 MB": RECORD.ljust(10_000_000, b"\0"),
}
each_damage = pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)


@each_damage
def test_a_damaged_record_is_told_with_store_and_index(
    faulty: Faulty, keystore: Keystore, damaged: bytes
) -> None:
    keystore.write("i", damaged)
    with pytest.raises(kekd.CorruptEnvelopeError) as caught:
        faulty.client.get_index_kms(keystore.config, "i")
    error = caught.value
    assert (error.index_name, error.store) == ("i", keystore.name)
    assert error.reason == "ENVELOPE_CORRUPT"


@each_damage
def test_a_damaged_record_can_be_listed_repaired_and_deleted(
    faulty: Faulty, keystore: Keystore, damaged: bytes
) -> None:
    client, store = faulty.client, keystore.config
    client.create_index_kms(store, "sound", BLOB)
    keystore.write("i", damaged)
    assert list(client.list_index_kms(store)) == ["i", "sound"]
    with pytest.raises(kekd.EnvelopeExistsError):
        client.create_index_kms(store, "i", BLOB)
    assert keystore.read("i") == damaged
    client.push_index_kms(store, "i", BLOB)
    assert client.get_index_kms(store, "i") == BLOB
    keystore.write("i", damaged)
    assert client.delete_index_kms(store, "i")
    assert list(client.list_index_kms(store)) == ["sound"]


def test_a_damaged_record_is_data_loss_on_the_wire(faulty: Faulty) -> None:
    (faulty.folder / "i.kms.cat").write_bytes(b"")
    with grpc.insecure_channel(faulty.daemon.address) as channel:
        get: Any = EnvelopeServiceStub(channel).GetEnvelope
        code, info = failure_of(get, pb.GetEnvelopeRequest(index_name="i"))
    assert (code, info.reason) == ("DATA_LOSS", "ENVELOPE_CORRUPT")
    assert info.metadata == {"index_name": "i", "store": f"disk:{faulty.folder.parent.parent}"}


@pytest.fixture
def folder_in_place(faulty: Faulty) -> Iterator[Path]:
    """Somebody made a folder, with something in it, where the envelope of "i" would be."""
    folder = faulty.folder / "i.kms.cat"
    folder.mkdir()
    (folder / "something").touch()
    yield folder
    shutil.rmtree(folder)


def test_a_folder_in_the_place_of_a_record_is_corrupt(
    faulty: Faulty, folder_in_place: Path
) -> None:
    with pytest.raises(kekd.CorruptEnvelopeError) as caught:
        faulty.client.get_index_kms(None, "i")
    assert caught.value.index_name == "i"


@pytest.mark.parametrize("name", ["create", "push", "delete"])
def test_a_folder_in_the_place_of_a_record_is_left_to_its_owner(
    faulty: Faulty, folder_in_place: Path, name: str
) -> None:
    with pytest.raises((kekd.EnvelopeExistsError, kekd.StoreUnusableError)) as caught:
        CALLS[name](faulty.client, None)
    assert caught.value.store.startswith("disk:")
    assert [path.name for path in folder_in_place.iterdir()] == ["something"]
    assert list((faulty.folder.parent.parent / "_kekd" / "tmp").iterdir()) == []


# S3 that refuses


@each_call
def test_a_missing_bucket_is_told_with_the_stores_name(
    faulty: Faulty, call: Callable[..., Any]
) -> None:
    with pytest.raises(kekd.StoreUnusableError, match="NoSuchBucket") as caught:
        call(faulty.client, kekd.StorageConfig.s3(MISSING_BUCKET))
    assert caught.value.store == f"s3:{MISSING_BUCKET}"


@each_call
def test_refused_credentials_are_told_with_the_stores_name(
    faulty: Faulty, call: Callable[..., Any]
) -> None:
    faulty.proxy.tell(then=s3_error(403, "InvalidAccessKeyId"))
    with pytest.raises(kekd.StoreUnusableError, match="credentials") as caught:
        call(faulty.client, S3)
    assert caught.value.store == f"s3:{BUCKET}"
    faulty.client.push_index_kms(None, "i", BLOB)


def test_missing_credentials_are_told(start_daemon: StartDaemon, tmp_path: Path) -> None:
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    flags = ("--s3", BUCKET, "--s3-region", REGION, "--s3-endpoint", "http://127.0.0.1:1")
    daemon = start_daemon(*flags, env=nowhere)
    with (
        kekd.Client(daemon.address) as client,
        pytest.raises(kekd.StoreUnusableError, match="AWS credentials") as caught,
    ):
        client.get_index_kms(None, "i")
    assert caught.value.store == f"s3:{BUCKET}"


# S3 that is down, slow or flaky


def test_an_endpoint_that_is_down_is_told_in_time_with_the_stores_name(
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
def test_an_endpoint_that_always_answers_503_is_told_in_time_with_the_stores_name(
    own_faulty: Faulty, code: str
) -> None:
    own_faulty.proxy.tell(then=s3_error(503, code))
    with pytest.raises(kekd.UnavailableError, match=code) as caught:
        own_faulty.client.get_index_kms(S3, "i")
    assert caught.value.store == f"s3:{BUCKET}"
    own_faulty.client.push_index_kms(None, "i", BLOB)


@pytest.fixture
def once(faulty: Faulty) -> Iterator[Callable[[str], Any]]:
    """Makes a call, by its name, about "i" in the bucket, past the client and its retries."""
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
def test_the_daemon_tries_a_failing_endpoint_a_few_times(
    faulty: Faulty, once: Callable[[str], Any], fault: Fault
) -> None:
    faulty.proxy.tell(then=fault)
    with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        once("list")
    assert faulty.proxy.connections == ATTEMPTS


@pytest.mark.parametrize("name", ["create", "push", "list"])
def test_the_daemon_outlives_a_503(faulty: Faulty, once: Callable[[str], Any], name: str) -> None:
    faulty.proxy.tell(s3_error(503, "ServiceUnavailable"))
    once(name)
    assert faulty.proxy.connections == 2


@pytest.mark.parametrize("name", ["create", "push"])
def test_the_daemon_outlives_a_conflict(
    faulty: Faulty, once: Callable[[str], Any], name: str
) -> None:
    faulty.proxy.tell(s3_error(409, "ConditionalRequestConflict"))
    once(name)
    assert faulty.proxy.connections == 2
    assert faulty.client.get_index_kms(S3, "i") == OTHER


def test_a_silent_endpoint_holds_up_only_its_own_callers(own_faulty: Faulty) -> None:
    own_faulty.proxy.tell(then=say_nothing)
    start = time.monotonic()
    with pytest.raises(kekd.DeadlineExceededError):
        own_faulty.client.get_index_kms(S3, "i", timeout=0.5)
    assert time.monotonic() - start < 2
    for store in (None, MEMORY):
        own_faulty.client.push_index_kms(store, "i", BLOB, timeout=0.5)
        assert own_faulty.client.get_index_kms(store, "i", timeout=0.5) == BLOB


# S3 whose answer is lost


def test_a_create_whose_answer_was_lost_is_the_callers_own(faulty: Faulty) -> None:
    faulty.proxy.tell(lose_answer)
    etag = faulty.client.create_index_kms(S3, "i", BLOB)
    assert faulty.proxy.connections == 3  # the write, its repetition, and a look at whose it is
    stored = faulty.client.get_index_kms(S3, "i")
    assert (stored, stored.etag) == (BLOB, etag)


def test_a_rivals_create_is_refused_even_if_an_answer_was_lost(faulty: Faulty) -> None:
    faulty.client.create_index_kms(S3, "i", BLOB)
    faulty.proxy.tell(lose_answer)
    with pytest.raises(kekd.EnvelopeExistsError):
        faulty.client.create_index_kms(S3, "i", BLOB)  # equal, but not this call's


def test_a_conditional_push_whose_answer_was_lost_is_the_callers_own(faulty: Faulty) -> None:
    old = faulty.client.create_index_kms(S3, "i", OTHER)
    faulty.proxy.tell(lose_answer)
    new = faulty.client.push_index_kms(S3, "i", BLOB, if_etag=old)
    stored = faulty.client.get_index_kms(S3, "i")
    assert (stored, stored.etag) == (BLOB, new)


def test_a_conditional_push_that_a_rival_outran_is_refused_even_if_an_answer_was_lost(
    faulty: Faulty,
) -> None:
    stale = faulty.client.create_index_kms(S3, "i", OTHER)
    faulty.client.push_index_kms(S3, "i", BLOB)
    faulty.proxy.tell(lose_answer)
    with pytest.raises(kekd.EtagMismatchError):
        faulty.client.push_index_kms(S3, "i", BLOB, if_etag=stale)


def test_a_create_is_not_refused_while_nobody_knows_whose_the_object_is(faulty: Faulty) -> None:
    unavailable = s3_error(503, "ServiceUnavailable")
    faulty.proxy.tell(lose_answer, relay, *[unavailable] * ATTEMPTS)
    faulty.client.create_index_kms(S3, "i", BLOB, timeout=30)
    assert faulty.client.get_index_kms(S3, "i") == BLOB


def test_an_unconditional_delete_whose_answer_was_lost_is_done(faulty: Faulty) -> None:
    faulty.client.create_index_kms(S3, "i", BLOB)
    faulty.proxy.tell(relay, lose_answer)
    assert faulty.client.delete_index_kms(S3, "i")
    with pytest.raises(kekd.EnvelopeNotFoundError):
        faulty.client.get_index_kms(S3, "i")
