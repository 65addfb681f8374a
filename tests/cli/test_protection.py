"""kekctl hold, release and destroy."""

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import Result

import kekd
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.kekctl import kekctl
from tests.fixtures.s3 import CREDENTIALS, Bucket
from tests.patience import eventually

KEK = b"a wrapped KEK that nobody may find"
DIGEST = hashlib.sha256(KEK).hexdigest()


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    return tmp_path / "keystore"


@pytest.fixture
def daemon(start_daemon: StartDaemon, keystore: Path) -> Daemon:
    return start_daemon("--disk", str(keystore))


@pytest.fixture
def client(daemon: Daemon) -> kekd.Client:
    client = kekd.Client(daemon.address)
    for key in ("old", "new"):
        blob = kekd.KMSBlob(provider="aws-kms", key_id=key, wrapped_kek=KEK)
        client.push_index_kms(None, "i", blob)
    return client


def run(daemon: Daemon, *arguments: str, code: int = 0) -> Result:
    return kekctl("--address", daemon.address, *arguments, code=code)


def files_with(content: bytes, root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and content in path.read_bytes()]


def test_destroy_removes_every_byte_and_prints_a_receipt(
    daemon: Daemon, client: kekd.Client, keystore: Path
) -> None:
    versions = list(client.list_versions_index_kms(None, "i"))
    assert files_with(KEK, keystore)
    result = run(daemon, "destroy", "i", "--reason", "tenant left", "--yes")
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        f"destroyed  {version.version_id}  etag {version.etag}  sha256 {DIGEST}"
        for version in versions
    ]
    assert any("backups" in line for line in lines[2:])
    assert not files_with(KEK, keystore)
    with pytest.raises(kekd.EnvelopeNotFoundError):
        client.get_index_kms(None, "i")


def test_destroy_without_yes_asks_and_changes_nothing(daemon: Daemon, client: kekd.Client) -> None:
    result = run(daemon, "destroy", "i", "--reason", "tenant left", code=1)
    assert "Nothing undoes this" in result.stderr
    assert client.get_index_kms(None, "i").key_id == "new"


def test_destroy_without_a_reason_is_a_usage_error(daemon: Daemon) -> None:
    result = run(daemon, "destroy", "i", "--yes", code=2)
    assert "--reason" in result.stderr


def test_destroy_that_leaves_a_file_says_so_and_fails(
    daemon: Daemon, client: kekd.Client, keystore: Path
) -> None:
    list(client.list_versions_index_kms(None, "i"))
    (keystore / "_kekd/history/i.kms.cat/note").write_text("by hand")
    result = run(daemon, "destroy", "i", "--reason", "r", "--yes", "--output", "json", code=1)
    (remaining,) = json.loads(result.stdout)["remaining"]
    assert remaining["version_id"].endswith("/note")


def test_held_index_is_refused_with_the_reason_until_it_is_released(
    daemon: Daemon, client: kekd.Client
) -> None:
    held = run(daemon, "hold", "i", "--reason", "in court")
    assert f"kekctl --address {daemon.address} release i" in held.stderr
    for command in (["delete", "i"], ["destroy", "i", "--reason", "r", "--yes"]):
        refused = run(daemon, *command, code=9)
        assert "index 'i' is held: in court" in refused.stderr
    hold = client.find_hold_index_kms(None, "i")
    assert hold
    assert (hold.reason, hold.caller) == ("in court", "listener:unix")
    shown = run(daemon, "history", "i").stderr
    assert "listener:unix holds index 'i' since 20" in shown
    assert shown.endswith(": in court\n")
    assert run(daemon, "release", "i").stdout == "released\n"
    assert not run(daemon, "history", "i").stderr
    assert run(daemon, "release", "i").stdout == "nothing to release\n"
    assert run(daemon, "delete", "i")


def test_receipt_is_in_the_audit_log(start_daemon: StartDaemon, tmp_path: Path) -> None:
    log = tmp_path / "audit"
    daemon = start_daemon("--memory", "--audit", str(log))
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", kekd.KMSBlob(provider="none"))
        client.destroy_index_kms(None, "i", "tenant left")
    eventually(lambda: '"receipt"' in log.read_text())
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert entries[-1]["justification"] == "tenant left"
    assert len(entries[-1]["receipt"]["destroyed"]) == 1


async def test_async_client_holds_releases_and_destroys(daemon: Daemon) -> None:
    async with kekd.AsyncClient(daemon.address) as client:
        await client.hold_index_kms(None, "i", "in court")
        assert await client.find_hold_index_kms(None, "i")
        assert await client.release_index_kms(None, "i")
        assert not await client.find_hold_index_kms(None, "i")
        receipt = await client.destroy_index_kms(None, "i", "tenant left")
    assert receipt.destroyed == ()
    assert receipt.unchecked


def test_breach_of_a_hold_is_reported_to_watchers(
    daemon: Daemon, client: kekd.Client, keystore: Path
) -> None:
    client.hold_index_kms(None, "i", "in court")
    events = client.watch_index_kms(None)
    assert isinstance(next(events), kekd.Resync)  # the watch has started
    with_breach = (
        event for event in events if isinstance(event, kekd.Change) and event.breaches_hold
    )
    (keystore / "_catalog/config/i.kms.cat").unlink()
    assert next(with_breach).index_name == "i"
    eventually(lambda: "another program changed index 'i', which is held" in daemon.read_log())


def test_breach_of_a_hold_while_the_daemon_was_down_is_reported(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    keystore = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(keystore))
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", kekd.KMSBlob(provider="none"))
        client.hold_index_kms(None, "i", "in court")
    daemon.stop()
    (keystore / "_catalog/config/i.kms.cat").unlink()
    restarted = start_daemon("--disk", str(keystore))
    eventually(lambda: "another program changed index 'i', which is held" in restarted.read_log())


def test_breach_of_a_hold_on_s3_is_reported_to_watchers(
    start_daemon: StartDaemon, bucket: Bucket
) -> None:
    daemon = start_daemon(*bucket.flags, "--s3-poll", "0.3", env=CREDENTIALS)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", kekd.KMSBlob("prod", "none"))
        # Long before the breach: kekd reports none in the second of the hold.
        hold = b'{"reason": "in court", "caller": "uid:7", "time_ns": 1}'
        bucket.s3.put_object(Bucket=bucket.name, Key="_kekd/holds/i.kms.cat", Body=hold)
        events = client.watch_index_kms(None)
        assert isinstance(next(events), kekd.Resync)  # the watch has started
        with_breach = (
            event for event in events if isinstance(event, kekd.Change) and event.breaches_hold
        )
        bucket.s3.delete_object(Bucket=bucket.name, Key="_catalog/config/i.kms.cat")
        assert next(with_breach).index_name == "i"
    # The log is written by a thread of its own.
    eventually(lambda: "another program changed index 'i', which is held" in daemon.read_log())
