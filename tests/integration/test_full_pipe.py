"""A daemon whose standard error is a pipe that nobody reads, and which has a lot to say."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import kekd
from tests.fixtures.daemon import BIN, clean_environment


@pytest.fixture
def unread(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Over a keystore with a good envelope, and one that is damaged."""
    keystore = tmp_path / "keystore"
    command = [str(BIN / "kekd"), "--listen", f"unix:{tmp_path}/kekd.sock", "--disk", str(keystore)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_environment()
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def client(unread: "subprocess.Popen[bytes]", tmp_path: Path) -> Iterator[kekd.Client]:
    with kekd.Client(f"unix:{tmp_path}/kekd.sock") as client:
        client.wait()
        client.create_index_kms(None, "good", kekd.KMSBlob(provider="none"))
        (tmp_path / "keystore" / "_catalog" / "config" / "bad.kms.cat").write_bytes(b"\0")
        yield client


def complain(client: kekd.Client, times: int) -> None:
    for _ in range(times):
        with pytest.raises(kekd.CorruptEnvelopeError):
            client.get_index_kms(None, "bad")


def test_it_goes_on_and_stops_when_told(
    unread: "subprocess.Popen[bytes]", client: kekd.Client
) -> None:
    complain(client, 200)
    assert client.get_index_kms(None, "good", timeout=5).provider == "none"
    unread.send_signal(signal.SIGTERM)
    assert unread.wait(timeout=10) == 0
    assert unread.stderr
    assert unread.stderr.read().count(b"WARNING") < 200
