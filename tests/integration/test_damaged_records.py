"""Damaged records are reported, and can still be listed, repaired and deleted."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_schema import Envelope, encode
from kekd_server.listeners.engine import EngineName
from tests.fixtures.calls import BLOB, CALLS
from tests.fixtures.daemon import Daemon
from tests.fixtures.s3 import CREDENTIALS, Bucket, make_bucket
from tests.integration.fixtures.wire import failure_of

ENVELOPE = Envelope(provider="aws-kms", key_id="k", wrapped_kek=b"\1" * 1000, version=1)
RECORD = encode(ENVELOPE)


class Keystore(NamedTuple):
    """One store of the daemon, and raw access to it."""

    config: kekd.StorageConfig
    name: str
    write: Callable[[str, bytes], Any]
    read: Callable[[str], bytes]


class Stores(NamedTuple):
    """A daemon with a disk and a bucket, and raw access to them."""

    daemon: Daemon
    client: kekd.Client
    root: Path
    folder: Path
    bucket: Bucket


@pytest.fixture(scope="module")
def shared_served(
    s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory, engine: EngineName
) -> Iterator[Stores]:
    bucket = make_bucket(s3_endpoint)
    folder = tmp_path_factory.mktemp("damaged")
    root = folder / "keystore"
    daemon = Daemon(folder, "--disk", str(root), *bucket.flags, env=CREDENTIALS, engine=engine)
    try:
        daemon.wait()
        with kekd.Client(daemon.address) as client:
            yield Stores(daemon, client, root, root / "_catalog" / "config", bucket)
    finally:
        daemon.kill()


@pytest.fixture
def served(shared_served: Stores) -> Iterator[Stores]:
    """A daemon that the tests share. Its stores are empty at the start of each."""
    yield shared_served
    for store in (None, kekd.StorageConfig.s3(shared_served.bucket.name)):
        for index in shared_served.client.list_index_kms(store):
            shared_served.client.delete_index_kms(store, index)


@pytest.fixture(params=["disk", "s3"])
def keystore(served: Stores, request: pytest.FixtureRequest) -> Keystore:
    folder, bucket, key = served.folder, served.bucket.name, "_catalog/config/{}.kms.cat".format
    s3 = served.bucket.s3
    if request.param == "disk":
        return Keystore(
            kekd.StorageConfig.disk(str(served.root)),
            f"disk:{served.root}",
            lambda index, content: (folder / f"{index}.kms.cat").write_bytes(content),
            lambda index: (folder / f"{index}.kms.cat").read_bytes(),
        )
    return Keystore(
        kekd.StorageConfig.s3(bucket),
        f"s3:{bucket}",
        lambda index, content: s3.put_object(Bucket=bucket, Key=key(index), Body=content),
        lambda index: s3.get_object(Bucket=bucket, Key=key(index))["Body"].read(),
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
def test_damaged_record_is_reported_with_store_and_index(
    served: Stores, keystore: Keystore, damaged: bytes
) -> None:
    keystore.write("i", damaged)
    with pytest.raises(kekd.CorruptEnvelopeError) as caught:
        served.client.get_index_kms(keystore.config, "i")
    error = caught.value
    assert (error.index_name, error.store) == ("i", keystore.name)
    assert error.reason == "ENVELOPE_CORRUPT"


@each_damage
def test_damaged_record_can_be_listed_repaired_and_deleted(
    served: Stores, keystore: Keystore, damaged: bytes
) -> None:
    client, store = served.client, keystore.config
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


def test_damaged_record_is_data_loss_on_the_wire(served: Stores) -> None:
    (served.folder / "i.kms.cat").write_bytes(b"")
    with grpc.insecure_channel(served.daemon.address) as channel:
        get: Any = EnvelopeServiceStub(channel).GetEnvelope
        code, info = failure_of(get, pb.GetEnvelopeRequest(index_name="i"))
    assert (code, info.reason) == ("DATA_LOSS", "ENVELOPE_CORRUPT")
    assert info.metadata == {"index_name": "i", "store": f"disk:{served.root}"}


def test_dangling_link_is_a_damaged_record(served: Stores) -> None:
    client, record = served.client, served.folder / "i.kms.cat"
    record.symlink_to("nowhere")
    with pytest.raises(kekd.CorruptEnvelopeError):
        client.get_index_kms(None, "i")
    with pytest.raises(kekd.EnvelopeExistsError):
        client.create_index_kms(None, "i", BLOB)
    assert client.delete_index_kms(None, "i")
    assert not record.is_symlink()
    record.symlink_to("nowhere")
    client.push_index_kms(None, "i", BLOB)
    assert client.get_index_kms(None, "i") == BLOB
    assert not record.is_symlink()


@pytest.fixture
def folder_in_place(served: Stores) -> Iterator[Path]:
    """Creates a folder with a file at the path of the envelope of "i"."""
    folder = served.folder / "i.kms.cat"
    folder.mkdir()
    (folder / "something").touch()
    yield folder
    shutil.rmtree(folder)


def test_folder_in_place_of_a_record_is_corrupt(served: Stores, folder_in_place: Path) -> None:
    with pytest.raises(kekd.CorruptEnvelopeError) as caught:
        served.client.get_index_kms(None, "i")
    assert caught.value.index_name == "i"


@pytest.mark.parametrize("name", ["create", "push", "delete"])
def test_folder_in_place_of_a_record_is_not_removed(
    served: Stores, folder_in_place: Path, name: str
) -> None:
    with pytest.raises((kekd.EnvelopeExistsError, kekd.StoreMisconfiguredError)) as caught:
        CALLS[name](served.client, None)
    assert caught.value.store.startswith("disk:")
    assert [path.name for path in folder_in_place.iterdir()] == ["something"]
    assert list((served.root / "_kekd" / "tmp").glob("*/*")) == []
