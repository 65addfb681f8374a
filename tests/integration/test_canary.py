"""No wrapped key in any log, repr or error text."""

import base64
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

import kekd
from kekd_schema import Envelope
from kekd_server.storage.driver import StoredRecord
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, both_engines

pytestmark = both_engines

CANARY = b"wrapped-kek-canary"
TRACES = (CANARY.decode(), CANARY.hex(), base64.b64encode(CANARY).decode()[:20])


def holds_no_canary(text: str) -> bool:
    return not any(trace in text for trace in TRACES)


@pytest.mark.parametrize(
    "value",
    [
        kekd.KMSBlob(wrapped_kek=CANARY),
        Envelope(wrapped_kek=CANARY),
        StoredRecord(CANARY, "etag"),
        kekd.S3Credentials("access", CANARY.decode(), CANARY.decode()),
    ],
)
def test_repr_contains_no_key(value: object) -> None:
    assert holds_no_canary(repr(value))
    assert holds_no_canary(str(value))


def corrupted(daemon: Daemon, root: Path, client: kekd.Client) -> None:
    (path,) = (root / "_catalog" / "config").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    client.get_index_kms(None, "index")


def gone(daemon: Daemon, root: Path, client: kekd.Client) -> None:
    root.rename(root.with_name("moved"))
    client.push_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY))


def invalid(daemon: Daemon, root: Path, client: kekd.Client) -> None:
    client.push_index_kms(None, "index", kekd.KMSBlob("", "none", "", "", CANARY))


def exists(daemon: Daemon, root: Path, client: kekd.Client) -> None:
    client.create_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY + b"2"))


def unsendable(daemon: Daemon, root: Path, client: kekd.Client) -> None:
    client.push_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY.decode()))  # type: ignore[arg-type]


def too_large(daemon: Daemon, root: Path, client: kekd.Client) -> None:
    client.push_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY * 9000))


@pytest.mark.parametrize("failure", [corrupted, gone, invalid, exists, unsendable, too_large])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_failure_logs_no_key(
    start_daemon: StartDaemon,
    tmp_path: Path,
    failure: Callable[[Daemon, Path, kekd.Client], None],
    log_format: str,
) -> None:
    root = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(root), "--log-format", log_format)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY))
        with pytest.raises(kekd.EnvelopeError) as caught:
            failure(daemon, root, client)
    daemon.stop()
    assert holds_no_canary("".join(traceback.format_exception(caught.value)))
    assert holds_no_canary(daemon.read_log())


@pytest.mark.parametrize(
    "document",
    [
        '{"index_name": "i", "blob": {"wrapped_kek": "wrapped-kek-canary!"}}',
        '{"index_name": "i", "blob": {"wrapped-kek-canary": 1}}',
        '{"index_name": "i", "blob": {}, "wrapped-kek-canary": 1}',
        '{"index_name": "i", "wrapped_kek": "wrapped-kek-canary',
    ],
)
def test_kekctl_does_not_repeat_what_it_could_not_read(daemon: Daemon, document: str) -> None:
    command = [str(BIN / "kekctl"), "--address", daemon.address, "push", "-f", "-"]
    done = subprocess.run(command, input=document, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert holds_no_canary(done.stdout + done.stderr)
