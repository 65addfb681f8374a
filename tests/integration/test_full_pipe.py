"""A daemon serves and stops while its log fills a pipe that is never read."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import kekd
from tests.fixtures.daemon import BIN, clean_environment
from tests.patience import PATIENCE

DAMAGED = 200
PIPE_BYTES = 4096  # far fewer than the lines of DAMAGED records, however short a path is


@pytest.fixture
def unread(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Yields a daemon whose standard error is never read."""
    keystore = tmp_path / "keystore"
    command = [
        *(str(BIN / "kekd"), "--listen", f"unix:{tmp_path}/kekd.sock"),
        *("--disk", str(keystore), "--create-stores"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_environment()
    ) as process:
        assert process.stderr
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        yield process
        process.kill()


@pytest.fixture
def client(unread: "subprocess.Popen[bytes]", tmp_path: Path) -> Iterator[kekd.Client]:
    with kekd.Client(f"unix:{tmp_path}/kekd.sock") as client:
        client.wait()
        client.create_index_kms(None, "good", kekd.KMSBlob(provider="none"))
        for number in range(DAMAGED):
            (tmp_path / f"keystore/_catalog/config/bad-{number}.kms.cat").write_bytes(b"\0")
        yield client


def log_much(client: kekd.Client) -> None:
    for number in range(DAMAGED):
        with pytest.raises(kekd.CorruptEnvelopeError):
            client.get_index_kms(None, f"bad-{number}")


def test_daemon_with_a_full_log_pipe_serves_and_stops(
    unread: "subprocess.Popen[bytes]", client: kekd.Client
) -> None:
    log_much(client)
    assert client.get_index_kms(None, "good", timeout=PATIENCE).provider == "none"
    unread.send_signal(signal.SIGTERM)
    assert unread.wait(timeout=PATIENCE) == 0
    assert unread.stderr
    assert unread.stderr.read().count(b"WARNING") < DAMAGED


@pytest.mark.parametrize("output", [">/dev/full", "| true", ">&-"])
def test_unread_banner_does_not_block_the_start(tmp_path: Path, output: str) -> None:
    address, log = f"unix:{tmp_path}/kekd.sock", tmp_path / "log"
    script = f"{BIN}/kekd --listen {address} --memory 2>{log} & echo $! >{tmp_path}/pid; wait $!"
    command = f"({script}; echo $? >{tmp_path}/code) {output}"
    with subprocess.Popen(["bash", "-c", command], env=clean_environment()) as shell:
        with kekd.Client(address) as client:
            client.wait()
            assert list(client.list_index_kms()) == []
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        shell.wait(timeout=PATIENCE)
    assert (tmp_path / "code").read_text() == "0\n"
    assert "Traceback" not in log.read_text()
