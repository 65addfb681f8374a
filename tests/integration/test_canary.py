"""No wrapped key in any log, repr or error text."""

import base64
import traceback
from pathlib import Path

import pytest

import kekd
from kekd_schema import Envelope
from kekd_server.storage.driver import StoredRecord
from tests.fixtures.daemon import Daemon, StartDaemon, both_engines
from tests.fixtures.kekctl import kekctl

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


def corrupted(root: Path, client: kekd.Client) -> None:
    (path,) = (root / "_catalog" / "config").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    client.get_index_kms(None, "index")


def gone(root: Path, client: kekd.Client) -> None:
    root.rename(root.with_name("moved"))
    client.push_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY))


def invalid(root: Path, client: kekd.Client) -> None:
    client.push_index_kms(None, "index", kekd.KMSBlob("", "none", "", "", CANARY))


def exists(root: Path, client: kekd.Client) -> None:
    client.create_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY + b"2"))


def unsendable(root: Path, client: kekd.Client) -> None:
    client.push_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY.decode()))  # type: ignore[arg-type]


def too_large(root: Path, client: kekd.Client) -> None:
    client.push_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY * 9000))


FAILURES = [unsendable, too_large, exists, invalid, corrupted, gone]
"""The last leaves no keystore."""


@both_engines
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_failure_logs_no_key(start_daemon: StartDaemon, tmp_path: Path, log_format: str) -> None:
    root = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(root), "--log-format", log_format)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "index", kekd.KMSBlob("", "aws", "k", "", CANARY))
        for failure in FAILURES:
            with pytest.raises(kekd.EnvelopeError) as caught:
                failure(root, client)
            assert holds_no_canary("".join(traceback.format_exception(caught.value)))
    daemon.stop()
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
def test_invalid_input_is_not_repeated_in_errors(memory_daemon: Daemon, document: str) -> None:
    done = kekctl("--address", memory_daemon.address, "push", "-f", "-", stdin=document, code=2)
    assert holds_no_canary(done.output)
