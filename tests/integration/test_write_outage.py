"""Stores that can be read but not written are reported everywhere, and still serve reads."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest

import kekd
from kekd_schema import Envelope, encode
from kekd_server.model.index_name import IndexName
from tests.fixtures.calls import BLOB
from tests.fixtures.disk import opened
from tests.fixtures.kekctl import kekctl
from tests.fixtures.metrics import Scraped, StartScraped
from tests.fixtures.writes import create
from tests.integration.fixtures.health import READS, READY, Health, health_of
from tests.integration.test_disk_faults import Disk, no_powers_of_root
from tests.patience import eventually

pytestmark = pytest.mark.faults

ENVELOPE = Envelope(
    kms_name=BLOB.kms_name,
    provider=BLOB.provider,
    key_id=BLOB.key_id,
    region=BLOB.region,
    wrapped_kek=BLOB.wrapped_kek,
    version=BLOB.version,
    created_at=BLOB.created_at,
)
"""The record of `BLOB`."""

ADVICE = {
    errno.EACCES: "give the daemon's user read and write access to the folder",
    errno.EDQUOT: "free space, or enlarge the disk or quota",
    errno.EFBIG: "check the disk and its filesystem",
    errno.EIO: "check the disk, and retry",
    errno.ENOSPC: "free space, or enlarge the disk or quota",
    errno.EROFS: "mount the filesystem writable",
}

FAULTY = """
import os, time

how = os.environ["FAULTY_FSYNC"]
really_fsync = os.fsync


def fsync(file):
    while os.path.exists(how):
        with open(how) as said:
            code = said.read()
        if code != "hangs":
            raise OSError(int(code), os.strerror(int(code)))
        time.sleep(0.05)
    return really_fsync(file)


os.fsync = fsync
"""


def failure_of(folder: str | Path, code: int) -> str:
    """Returns the error of a store whose system calls fail with this code."""
    return f"the store at {folder} failed: {os.strerror(code)}; {ADVICE[code]}"


class Faulty:
    """A disk whose writes fail for the daemon as a file specifies."""

    def __init__(self, folder: Path) -> None:
        self.how = folder / "how"
        (folder / "site").mkdir(parents=True)
        (folder / "site" / "sitecustomize.py").write_text(FAULTY)
        self.env = {"FAULTY_FSYNC": str(self.how), "PYTHONPATH": str(folder / "site")}

    def fails(self, code: int) -> None:
        self.how.write_text(str(code))

    def hangs(self) -> None:
        self.how.write_text("hangs")

    def works(self) -> None:
        self.how.unlink()


class FaultyDaemon(NamedTuple):
    scraped: Scraped
    faulty: Faulty
    health: Health
    client: kekd.Client
    store: str

    def is_reported(self, error_message: str) -> None:
        """Waits until the error is reported everywhere, and checks that reads still succeed."""
        eventually(lambda: not self.health.serves(self.store))
        assert not self.health.serves(READY)
        assert self.health.serves(READS)
        (status,) = self.client.status().stores
        assert not status.healthy
        assert status.error_message == f"it can be read but not written: {error_message}"
        assert self.scraped.total("kekd_store_up", store=self.store) == 0
        assert self.scraped.total("kekd_store_readable", store=self.store) == 1
        kekctl("--address", self.client.address, "wait", "--for", "0", code=6)
        kekctl("--address", self.client.address, "wait", "--for", "0", "--service", READS)
        assert self.client.get_index_kms(None, "kept") == BLOB

    def wait_for_recovery(self) -> None:
        eventually(lambda: self.health.serves(self.store) and self.health.serves(READY))
        assert self.client.status().stores[0].healthy
        eventually(lambda: self.scraped.total("kekd_store_up", store=self.store) == 1)
        kekctl("--address", self.client.address, "wait", "--for", "0")
        log = self.scraped.daemon.read_log()
        assert log.count(f"ERROR {self.store} cannot be written: ") == 1
        assert log.count(f"{self.store} can be written again") == 1
        assert "doesn't answer" not in log


@pytest.fixture
def running(start_scraped: StartScraped, tmp_path: Path) -> Iterator[FaultyDaemon]:
    faulty = Faulty(tmp_path / "faulty")
    keystore = tmp_path / "keystore"
    scraped = start_scraped("--disk", str(keystore), env=faulty.env)
    with health_of(scraped.daemon) as health, kekd.Client(scraped.daemon.address) as client:
        client.create_index_kms(None, "kept", BLOB)
        yield FaultyDaemon(scraped, faulty, health, client, f"disk:{keystore}")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(errno.EDQUOT, "STORE_MISCONFIGURED"), (errno.EIO, "STORE_UNAVAILABLE")],
    ids=["EDQUOT", "EIO"],
)
def test_writes_that_fail_are_reported_until_one_succeeds(
    running: FaultyDaemon, code: int, outcome: str
) -> None:
    running.faulty.fails(code)
    with pytest.raises(kekd.EnvelopeError):
        running.client.push_index_kms(None, "kept", BLOB, timeout=1)
    running.is_reported(failure_of(running.store.removeprefix("disk:"), code))
    failed = {"operation": "put", "outcome": outcome, "store": running.store}
    assert running.scraped.total("kekd_store_operations_total", **failed) > 0
    running.faulty.works()
    running.wait_for_recovery()


def test_writes_that_hang_are_reported_until_they_end(running: FaultyDaemon) -> None:
    running.faulty.hangs()
    with pytest.raises(kekd.EnvelopeError):
        running.client.push_index_kms(None, "kept", BLOB, timeout=1)
    running.is_reported("no answer in 4 s; check its disk or network")
    running.faulty.works()
    running.wait_for_recovery()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.set_writable(True)
    disk.close()


@pytest.fixture
def on_disk(disk: Disk, start_scraped: StartScraped, tmp_path: Path) -> Iterator[FaultyDaemon]:
    with nullcontext() if disk.mounted else no_powers_of_root():
        scraped = start_scraped("--disk", str(disk.path))
    with health_of(scraped.daemon) as health, kekd.Client(scraped.daemon.address) as client:
        client.create_index_kms(None, "kept", BLOB)
        faulty = Faulty(tmp_path / "unused")
        yield FaultyDaemon(scraped, faulty, health, client, f"disk:{disk.path}")
    scraped.daemon.kill()


def test_read_only_disk_is_reported_before_any_write(on_disk: FaultyDaemon, disk: Disk) -> None:
    disk.set_writable(False)
    on_disk.is_reported(failure_of(disk.path, errno.EROFS if disk.mounted else errno.EACCES))
    disk.set_writable(True)
    on_disk.wait_for_recovery()


def test_keystore_of_cyborgdb_on_a_read_only_disk_becomes_writable_later(
    disk: Disk, start_scraped: StartScraped, tmp_path: Path
) -> None:
    create(opened(disk.path), IndexName("kept"), encode(ENVELOPE))
    shutil.rmtree(disk.path / "_kekd")
    disk.set_writable(False)
    with nullcontext() if disk.mounted else no_powers_of_root():
        scraped = start_scraped("--disk", str(disk.path), service=READS)
    with health_of(scraped.daemon) as health, kekd.Client(scraped.daemon.address) as client:
        running = FaultyDaemon(
            scraped, Faulty(tmp_path / "unused"), health, client, f"disk:{disk.path}"
        )
        running.is_reported(failure_of(disk.path, errno.EROFS if disk.mounted else errno.EACCES))
        disk.set_writable(True)
        running.wait_for_recovery()
        client.push_index_kms(None, "new", BLOB)
    scraped.daemon.kill()


def test_full_disk_is_reported_until_it_has_room(on_disk: FaultyDaemon, disk: Disk) -> None:
    disk.fill(on_disk.scraped.daemon)
    large = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", b"\1" * 6000, 7)
    with pytest.raises(kekd.StoreMisconfiguredError):
        on_disk.client.create_index_kms(None, "new", large)
    on_disk.is_reported(failure_of(disk.path, errno.ENOSPC if disk.mounted else errno.EFBIG))
    (disk.path / "ballast").unlink(missing_ok=True)
    disk.has_room(on_disk.scraped.daemon)
    on_disk.wait_for_recovery()
