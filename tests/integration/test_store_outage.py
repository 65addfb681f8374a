"""Stores that are down at the start, or fail later.

The daemon serves the others, reports the failed ones, and recovers by itself.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

import kekd
from kekd_server.listeners.engine import EngineName
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.metrics import StartScraped
from tests.fixtures.moto_process import serving
from tests.fixtures.s3 import CREDENTIALS, REGION, Bucket, free_port, make_bucket
from tests.fixtures.workers import StartWorkers
from tests.integration.fixtures.broken_disk import BrokenDisk
from tests.integration.fixtures.health import READY, health_of
from tests.patience import PATIENCE, eventually

pytestmark = pytest.mark.faults

ALIVE = ""
BUCKET = "late-keystore"


def flags(endpoint: str) -> tuple[str, ...]:
    return ("--s3", BUCKET, "--s3-region", REGION, "--s3-endpoint", endpoint)


@pytest.mark.parametrize("workers", [1, 2])
def test_s3_that_starts_after_the_daemon_is_served_without_a_restart(
    start_daemon: StartDaemon, start_workers: StartWorkers, workers: int
) -> None:
    port = free_port()
    s3 = flags(f"http://127.0.0.1:{port}")
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--workers", str(workers))
    daemon = start_daemon(*s3, *listen, env=CREDENTIALS, service=ALIVE)
    with health_of(daemon) as health, kekd.Client(daemon.address) as client:
        eventually(lambda: f"s3:{BUCKET} doesn't answer: " in daemon.read_log())
        assert not health.serves(READY)
        assert not health.serves(f"s3:{BUCKET}")
        with pytest.raises(kekd.UnavailableError):
            client.create_index_kms(None, "i", BLOB)
        with serving("s3_server.py", str(port)) as endpoint:
            make_bucket(endpoint, BUCKET)
            eventually(lambda: health.serves(READY) and health.serves(f"s3:{BUCKET}"))
            client.create_index_kms(None, "i", BLOB)
            assert client.get_index_kms(None, "i") == BLOB


def test_credentials_that_come_after_the_daemon_are_taken(
    start_daemon: StartDaemon, bucket: Bucket, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    env = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(file),
        **dict.fromkeys(CREDENTIALS, ""),
    }
    daemon = start_daemon(*bucket.flags, env=env, service=ALIVE)
    with health_of(daemon) as health, kekd.Client(daemon.address) as client:
        eventually(lambda: "AWS credentials" in daemon.read_log())
        assert not health.serves(READY)
        file.write_text("[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
        eventually(lambda: health.serves(READY))
        client.create_index_kms(None, "i", BLOB)


@pytest.mark.parametrize("how", [BrokenDisk.fails, BrokenDisk.hangs], ids=["fails", "hangs"])
def test_disk_that_is_down_at_the_start_is_served_once_it_is_back(
    start_daemon: StartDaemon, broken_disk: BrokenDisk, how: Callable[[BrokenDisk], None]
) -> None:
    start_daemon("--disk", str(broken_disk.keystore)).kill()
    how(broken_disk)
    disk = f"disk:{broken_disk.keystore}"
    stores = ("--disk", str(broken_disk.keystore), "--memory")
    daemon = start_daemon(*stores, env=broken_disk.env)
    with health_of(daemon) as health, kekd.Client(daemon.address) as client:
        client.create_index_kms(kekd.StorageConfig.memory(), "i", BLOB, timeout=PATIENCE)
        eventually(lambda: f"ERROR {disk} doesn't answer: " in daemon.read_log())
        assert health.serves(READY)
        assert not health.serves(disk)
        broken_disk.works()
        eventually(lambda: health.serves(disk))
        client.create_index_kms(None, "i", BLOB)
        assert client.get_index_kms(None, "i") == BLOB


def test_disk_that_was_down_at_the_start_is_not_created_later(
    start_scraped: StartScraped, broken_disk: BrokenDisk
) -> None:
    """Its volume may still not be mounted."""
    broken_disk.fails()
    stores = ("--disk", str(broken_disk.keystore), "--memory")
    scraped = start_scraped(*stores, env=broken_disk.env)
    broken_disk.works()
    look = {"operation": "check", "outcome": "STORE_MISCONFIGURED"}
    eventually(lambda: scraped.total("kekd_store_operations_total", **look) == 1)
    with (
        kekd.Client(scraped.daemon.address) as client,
        pytest.raises(kekd.StoreMisconfiguredError, match="its volume may not be mounted"),
    ):
        client.create_index_kms(None, "i", BLOB)
    assert not broken_disk.keystore.exists()


@pytest.mark.parametrize("what", ["file", "folder of a file"])
def test_path_that_cannot_be_a_folder_is_refused_at_the_start(
    tmp_path: Path, what: str, engine: EngineName
) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    folder = file if what == "file" else file / "keystore"
    daemon = Daemon(tmp_path / "daemon", "--disk", str(folder), "--memory", engine=engine)
    assert daemon.process.wait(timeout=PATIENCE) == 2
    assert f"kekd: the store at {folder} failed: Not a directory" in daemon.read_log()


@pytest.mark.parametrize("mount_point", [False, True], ids=["nothing left", "empty mount point"])
def test_missing_folder_is_reported_and_not_recreated(
    start_daemon: StartDaemon, tmp_path: Path, mount_point: bool
) -> None:
    folder, hidden = tmp_path / "keystore", tmp_path / "hidden"
    daemon = start_daemon("--disk", str(folder))
    with health_of(daemon) as health, kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)
        folder.rename(hidden)
        if mount_point:
            folder.mkdir()
        eventually(lambda: not health.serves(READY))
        assert health.serves(ALIVE)
        assert list(tmp_path.glob("keystore/*")) == []
        hidden.rename(folder)
        eventually(lambda: health.serves(READY))
        assert client.get_index_kms(None, "i") == BLOB
    said = f"disk:{folder} doesn't answer: the folder {folder} is missing: its volume may not be"
    assert daemon.read_log().count(said) == 1
    assert daemon.read_log().count(f"disk:{folder} answers again") == 1


def test_cause_is_logged_once_for_calls_with_the_same_failure(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    folder = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(folder))
    folder.rename(tmp_path / "hidden")
    with kekd.Client(daemon.address) as client:
        for number in range(20):
            with pytest.raises(kekd.StoreMisconfiguredError):
                client.create_index_kms(None, f"index-{number}", BLOB)
    assert daemon.stop() == 0
    assert daemon.read_log().count(f"WARNING the folder {folder} is missing") == 1
