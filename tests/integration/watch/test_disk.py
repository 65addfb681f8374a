"""Watches of a keystore folder to which any process may write."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyborgdb_core
import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.integration.fixtures.watch import OpenWatch, Watch, WatchEvent
from tests.patience import PATIENCE

MORE_THAN_THE_KERNEL_KEEPS = 20_000
RESYNC = WatchEvent("resync")


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    return tmp_path / "keystore"


@pytest.fixture
def records(keystore: Path) -> Path:
    return keystore / "_catalog" / "config"


@pytest.fixture
def disk(start_daemon: StartDaemon, keystore: Path) -> Daemon:
    return start_daemon("--disk", str(keystore))


@pytest.fixture
def here(disk: Daemon) -> Iterator[kekd.Client]:
    with kekd.Client(disk.address) as client:
        yield client


@pytest.fixture
def watch(disk: Daemon, open_watch: OpenWatch) -> Watch:
    return open_watch(disk)


def test_write_of_another_daemon_is_reported(
    start_daemon: StartDaemon, keystore: Path, watch: Watch
) -> None:
    other = start_daemon("--disk", str(keystore), name="other")
    with kekd.Client(other.address) as there:
        created = there.create_index_kms(None, "i", BLOB)
        assert watch.next() == WatchEvent("created", "i", created)
        pushed = there.push_index_kms(None, "i", kekd.KMSBlob("", "none"))
        assert watch.next() == WatchEvent("pushed", "i", pushed)
        there.delete_index_kms(None, "i")
        assert watch.next() == WatchEvent("deleted", "i")


def test_write_of_cyborgdb_is_reported(here: kekd.Client, keystore: Path, watch: Watch) -> None:
    config = cyborgdb_core.StorageConfig.disk(str(keystore))
    blob = cyborgdb_core.KMSBlob("prod", "aws-kms", "alias/prod", "", b"\1", 1, 7)
    cyborgdb_core.create_index_kms(config, "é", blob)
    assert watch.next() == WatchEvent("pushed", "é", here.get_index_kms(None, "é").etag)
    cyborgdb_core.delete_index_kms(config, "é")
    assert watch.next() == WatchEvent("deleted", "é")


def test_own_writes_are_reported_in_order(here: kekd.Client, records: Path, watch: Watch) -> None:
    etag = here.create_index_kms(None, "i", BLOB)
    assert watch.next() == WatchEvent("created", "i", etag)
    for number in range(100):
        here.push_index_kms(None, "i", kekd.KMSBlob("", "none", version=number + 1))
    here.delete_index_kms(None, "i")
    (records / "last.kms.cat").touch()
    # Each change may be reported twice, and quick changes may be merged into the last one.
    *changes, _ = watch.until("last")
    assert changes[-1] == WatchEvent("deleted", "i")


def next_after_create(watch: Watch) -> WatchEvent:
    """Skips the second report of a create from before the watch."""
    event = watch.next()
    return watch.next() if event.kind == "created" else event


def test_manual_change_is_reported(
    disk: Daemon, here: kekd.Client, records: Path, open_watch: OpenWatch, tmp_path: Path
) -> None:
    etag = here.create_index_kms(None, "a", BLOB)
    backup = shutil.copy(records / "a.kms.cat", tmp_path)
    watch = open_watch(disk)
    (records / "a.kms.cat").rename(records / "b.kms.cat")
    assert {next_after_create(watch), watch.next()} == {
        WatchEvent("deleted", "a"),
        WatchEvent("pushed", "b", etag),
    }
    (records / "b.kms.cat").unlink()
    assert watch.next() == WatchEvent("deleted", "b")
    shutil.copy(backup, records / "c.kms.cat")
    (records / "last.kms.cat").touch()
    assert watch.until("last")[-2][1:] == ("c", etag)


def test_write_in_place_is_reported(
    disk: Daemon, here: kekd.Client, records: Path, open_watch: OpenWatch
) -> None:
    here.create_index_kms(None, "i", BLOB)
    file = records / "i.kms.cat"
    record = file.read_bytes()
    watch = open_watch(disk)
    os.truncate(file, 0)
    assert next_after_create(watch)[:2] == ("pushed", "i")
    with file.open("r+b", buffering=0) as kept_open:
        kept_open.write(record)
        assert watch.next() == WatchEvent("pushed", "i", here.get_index_kms(None, "i").etag)


def test_other_files_are_ignored(here: kekd.Client, records: Path, watch: Watch) -> None:
    for name in (b"notes.txt", b"%c3.kms.cat", b"\xff.kms.cat", b".kms.cat"):
        Path(os.fsdecode(bytes(records) + b"/" + name)).touch()
    (records / "folder").mkdir()
    here.create_index_kms(None, "last", BLOB)
    assert watch.next().name == "last"
    assert list(here.list_index_kms()) == ["last"]


def test_overflow_of_the_event_queue_is_a_resync(
    disk: Daemon, here: kekd.Client, records: Path, open_watch: OpenWatch
) -> None:
    watch = open_watch(disk, timeout=10 * PATIENCE)
    disk.process.send_signal(signal.SIGSTOP)
    for number in range(MORE_THAN_THE_KERNEL_KEEPS):
        (records / f"{number}.kms.cat").touch()
    disk.process.send_signal(signal.SIGCONT)
    while watch.next() != RESYNC:
        pass
    here.create_index_kms(None, "afterwards", BLOB)
    watch.until("afterwards")


def test_replaced_folder_is_a_resync(
    disk: Daemon, here: kekd.Client, keystore: Path, records: Path, open_watch: OpenWatch
) -> None:
    here.create_index_kms(None, "i", BLOB)
    watch = open_watch(disk)
    shutil.copytree(keystore, keystore.with_name("new"))
    keystore.rename(keystore.with_name("old"))
    keystore.with_name("new").rename(keystore)
    assert next_after_create(watch) == RESYNC
    (records / "i.kms.cat").unlink()
    assert watch.next() == WatchEvent("deleted", "i")
    etag = here.create_index_kms(None, "j", BLOB)
    assert watch.next() == WatchEvent("created", "j", etag)


def test_folder_that_stays_missing_ends_its_watches(keystore: Path, watch: Watch) -> None:
    keystore.rename(keystore.with_name("hidden"))
    failure: Any = watch.failure()
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    assert "could not be polled for changes" in failure.details()


def test_watch_of_a_missing_folder_fails(
    disk: Daemon, keystore: Path, open_watch: OpenWatch
) -> None:
    shutil.rmtree(keystore)
    with pytest.raises(Exception, match="is missing: its volume may not be mounted") as refused:
        open_watch(disk)
    assert "FAILED_PRECONDITION" in str(refused.value)


def test_watch_of_one_store_does_not_report_changes_of_another(
    start_daemon: StartDaemon, keystore: Path, open_watch: OpenWatch
) -> None:
    daemon = start_daemon("--disk", str(keystore), "--memory")
    disk, memory = open_watch(daemon), open_watch(daemon, memory=pb.MemoryStorage())
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(kekd.StorageConfig.memory(), "in memory", BLOB)
        client.create_index_kms(None, "on disk", BLOB)
    assert (disk.next().name, memory.next().name) == ("on disk", "in memory")
