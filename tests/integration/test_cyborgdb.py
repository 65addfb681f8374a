"""cyborgdb_core and kekd on one keystore."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import cyborgdb_core
import pytest

import kekd
from tests.fixtures.daemon import StartDaemon
from tests.fixtures.s3 import CREDENTIALS, REGION, Bucket
from tests.integration.fixtures.proxy import StartProxy, relay
from tests.patience import eventually
from tests.vectors.make_records import values

SUFFIX: Final = ".kms.cat"
NAME_MAX: Final = 255
"""Bytes that a file name may have on Linux."""

LONGEST: Final = "x" * (NAME_MAX - len(SUFFIX))
"""The longest name that kekd stores."""

# cyborgdb_core writes to NAME.kms.cat.PID.N.tmp beside the record. N counts its writes. The more
# digits these have, the shorter NAME must be. This is the least that they can take.
TOO_LONG_FOR_CYBORGDB: Final = "x" * (NAME_MAX - len(f"{SUFFIX}.1.0.tmp") + 1)

LONGEST_FOR_BOTH: Final = "x" * (NAME_MAX - len(f"{SUFFIX}.4194304.999999.tmp"))
"""The longest name with the highest PID of Linux and a million writes."""

NAMES: Final = (
    "my_index",
    "a/b",
    "..",
    ".",
    "é",
    "a\0b",
    " ",
    "~",
    "%41",
    "A",
    "日本語",
    "🔑",
    "-._",
    LONGEST_FOR_BOTH,
)

PREFIXES: Final = {"bucket": "", "prefix": "tenants/é", "prefix with odd slashes": "/a//b/"}

# In a process of its own, because cyborgdb_core holds the GIL while it waits for S3.
CREATE_AND_DELETE: Final = """
import sys
from cyborgdb_core import *
bucket, region, endpoint, *credentials = sys.argv[1:]
config = StorageConfig.s3(
    bucket,
    region=region,
    endpoint=endpoint,
    prefix="/a//b/",
    credentials=S3Credentials(*credentials),
)
create_index_kms(config, "i", KMSBlob("prod", "none"))
delete_index_kms(config, "i")
"""


@dataclass(frozen=True)
class Peer:
    """kekd or cyborgdb_core on a common keystore."""

    functions: Any
    """The module cyborgdb_core, or a client of kekd, which has the same functions."""
    config: Any

    def create(self, name: str, blob: Any) -> None:
        self.functions.create_index_kms(self.config, name, blob)

    def push(self, name: str, blob: Any) -> None:
        self.functions.push_index_kms(self.config, name, blob)

    def get(self, name: str) -> Any:
        return self.functions.get_index_kms(self.config, name)

    def delete(self, name: str) -> None:
        self.functions.delete_index_kms(self.config, name)


Both = tuple[Peer, Peer]


def keystore(name: str) -> Any:
    return pytest.param(name, marks=[] if name == "disk" else pytest.mark.s3)


@pytest.fixture(params=[keystore(name) for name in ("disk", *PREFIXES)])
def both(
    request: pytest.FixtureRequest, start_daemon: StartDaemon, tmp_path: Path
) -> Iterator[Both]:
    """Both on a keystore, each with its own StorageConfig of the same arguments."""
    if request.param == "disk":
        folder = str(tmp_path / "keystore")
        flags = ["--disk", folder]
        configs = [api.StorageConfig.disk(folder) for api in (kekd, cyborgdb_core)]
    else:
        bucket: Bucket = request.getfixturevalue("bucket")
        prefix = PREFIXES[request.param]
        where = ("--s3-region", REGION, "--s3-endpoint", bucket.endpoint)
        flags = ["--s3", f"{bucket.name}/{prefix}", *where]
        configs = [
            api.StorageConfig.s3(
                bucket.name,
                region=REGION,
                endpoint=bucket.endpoint,
                prefix=prefix,
                credentials=api.S3Credentials(*CREDENTIALS.values()),
            )
            for api in (kekd, cyborgdb_core)
        ]
    with kekd.Client(start_daemon(*flags).address) as client:
        yield Peer(client, configs[0]), Peer(cyborgdb_core, configs[1])


def keystores(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("both", [keystore(name) for name in names], indirect=True)


def envelope(name: str, created_at: int = 1_700_000_000) -> Any:
    """Returns an envelope that depends on the name."""
    arn = f"arn:aws:kms:eu-central-1:111122223333:{name}"
    kek = name.encode() + b"\0\xff"
    return cyborgdb_core.KMSBlob("prod", "aws-kms", arn, "eu-central-1", kek, 1, created_at)


def finds_none() -> Any:
    return pytest.raises(ValueError, match="No KMS blob exists")


def test_envelope_of_either_is_read_by_the_other(both: Both) -> None:
    for one, other in permutations(both):
        for name in NAMES:
            one.create(name, envelope(name))
        for name in NAMES:
            assert values(other.get(name)) == values(envelope(name))
            both[0].delete(name)


def test_envelope_of_either_is_replaced_by_a_push_and_not_by_a_create_of_the_other(
    both: Both,
) -> None:
    for one, other in permutations(both):
        for name in NAMES:
            first, second = envelope(name), envelope(name, created_at=-1)
            one.push(name, first)
            with pytest.raises(ValueError, match="KMS blob already exists"):
                other.create(name, second)
            assert values(one.get(name)) == values(first)
            other.push(name, second)
            assert values(one.get(name)) == values(second)


@keystores("disk", "bucket", "prefix")
def test_delete_of_either_is_seen_by_the_other(both: Both) -> None:
    for one, other in permutations(both):
        for name in NAMES:
            one.create(name, envelope(name))
            other.delete(name)
            with finds_none():
                one.get(name)
            one.delete(name)


@keystores("prefix with odd slashes")
def test_delete_under_a_prefix_with_extra_slashes_removes_the_record_of_cyborgdb(
    both: Both,
) -> None:
    ours, theirs = both
    theirs.create("my_index", envelope("my_index"))
    ours.delete("my_index")
    with finds_none():
        theirs.get("my_index")


def test_delete_of_cyborgdb_under_a_prefix_with_extra_slashes_has_another_key_than_its_write(
    bucket: Bucket, start_proxy: StartProxy
) -> None:
    """Some servers normalize keys, so that the delete works there."""
    requests: list[bytes] = []

    def record(client: socket.socket, server: socket.socket) -> None:
        if client.recv(4, socket.MSG_PEEK) == b"POST":
            eventually(lambda: b"</Delete>" in client.recv(8192, socket.MSG_PEEK))
        requests.append(client.recv(8192, socket.MSG_PEEK))
        relay(client, server)

    proxy = start_proxy(bucket.endpoint.removeprefix("http://"))
    proxy.set_faults(then=record)
    arguments = [bucket.name, REGION, f"http://{proxy.address}", *CREDENTIALS.values()]
    subprocess.run([sys.executable, "-c", CREATE_AND_DELETE, *arguments], check=True)
    key = "_catalog/config/i.kms.cat"
    written = f"PUT /{bucket.name}/a/b/{key} ".encode()
    assert [request for request in requests if request.startswith(written)]
    assert f"<Key>/a//b/{key}</Key>".encode() in requests[-1]


@keystores("disk")
def test_cyborgdb_reads_and_deletes_a_name_that_is_too_long_for_it_to_write(both: Both) -> None:
    ours, theirs = both
    with pytest.raises(ValueError, match="File name too long"):
        theirs.push(TOO_LONG_FOR_CYBORGDB, envelope("name"))
    for name in (TOO_LONG_FOR_CYBORGDB, LONGEST):
        ours.create(name, envelope(name))
        assert values(theirs.get(name)) == values(envelope(name))
        theirs.delete(name)
        with finds_none():
            ours.get(name)


@keystores("disk")
def test_cyborgdb_reads_an_envelope_with_our_own_fields_and_drops_them(both: Both) -> None:
    ours, theirs = both
    blob = kekd.KMSBlob(
        "prod", "aws-kms", "alias/prod", wrapped_kek=b"\1", key_arn="a", binding="b"
    )
    ours.create("my_index", blob)
    assert ours.get("my_index") == blob
    read = theirs.get("my_index")
    assert values(read) == values(blob)
    theirs.push("my_index", read)
    assert ours.get("my_index") == replace(blob, key_arn="", binding="")


@keystores("disk")
def test_cyborgdb_refuses_a_version_2_that_kekd_reads(both: Both) -> None:
    for one in both:
        one.push("my_index", cyborgdb_core.KMSBlob("prod", "none", version=2))
        with pytest.raises(ValueError, match=r"^KMS blob has unsupported schema version\.$"):
            both[1].get("my_index")
        assert both[0].get("my_index").version == 2


@keystores("disk")
def test_kekd_reads_an_envelope_that_it_would_not_write(both: Both) -> None:
    ours, theirs = both
    blob = cyborgdb_core.KMSBlob(version=1)
    with pytest.raises(kekd.InvalidEnvelopeError):
        ours.create("my_index", blob)
    theirs.create("my_index", blob)
    assert ours.get("my_index") == kekd.KMSBlob()


def test_kekd_accepts_its_own_blob_or_cyborgdbs(client: kekd.Client) -> None:
    arguments = ("prod", "aws-kms", "alias/prod", "eu-central-1", b"\0\xff", 7, -1)
    for kind in (kekd.KMSBlob, cyborgdb_core.KMSBlob):
        client.create_index_kms(None, f"created {kind}", kind(*arguments))
        client.push_index_kms(None, f"pushed {kind}", kind(*arguments))
    stored = [client.get_index_kms(None, name) for name in client.list_index_kms()]
    assert stored == [kekd.KMSBlob(*arguments)] * 4
