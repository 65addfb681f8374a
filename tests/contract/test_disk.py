import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from kekd_common.policy import IndexRange
from kekd_server.model.errors import (
    EtagMismatchError,
    OutcomeUnknownError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.model.key_ranges import KeyRanges
from kekd_server.storage.disk import syncs, write_locks
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.driver import Driver
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.writes.attempt import WriteAttempt
from tests.contract.driver_contract import (
    ALL,
    FIRST,
    NAME,
    RETRY,
    AttemptContract,
    DriverContract,
    Harness,
)
from tests.contract.history_contract import (
    ForeignWriterContract,
    KekdHistoryContract,
    ProtectionContract,
)
from tests.contract.import_contract import ImportContract
from tests.fixtures.disk import opened
from tests.fixtures.writes import create, delete, put
from tests.patience import PATIENCE


class DiskHarness(Harness):
    def __init__(self, root: Path) -> None:
        self.driver = opened(root, Retention(versions=3))
        self._folder = root / "_catalog" / "config"

    def read(self, key: str) -> bytes | None:
        file = self._folder / key
        return file.read_bytes() if file.exists() else None

    def write(self, key: str, record: bytes) -> None:
        temporary = self._folder.parent / "being written"
        temporary.write_bytes(record)
        temporary.rename(self._folder / key)

    def remove(self, key: str) -> None:
        (self._folder / key).unlink()


class TestDiskDriver(
    DriverContract,
    AttemptContract,
    KekdHistoryContract,
    ProtectionContract,
    ForeignWriterContract,
    ImportContract,
):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return DiskHarness(tmp_path)


def test_record_folder_contains_only_records(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    put(driver, NAME, b"2", if_etag=None)
    (record,) = (tmp_path / "_catalog" / "config").iterdir()
    assert record.name == NAME.key
    assert not list((tmp_path / "_kekd" / "tmp").glob("*/*"))


def test_threads_write_in_separate_folders(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    together = threading.Barrier(4)

    def write(number: int) -> None:
        together.wait(timeout=PATIENCE)
        create(driver, IndexName(f"i-{number}"), b"1")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert {path.name for path in (tmp_path / "_kekd" / "tmp").iterdir()} == set("1234")


def test_missing_folder_is_not_created_again(tmp_path: Path) -> None:
    """Its volume may be unmounted. A write would then miss the keystore."""
    driver = opened(tmp_path / "keystore")
    (tmp_path / "keystore").rename(tmp_path / "elsewhere")
    with ThreadPoolExecutor(1) as thread:
        for write in (create, partial(put, if_etag=None)):
            with pytest.raises(StoreMisconfiguredError, match="mounted"):
                thread.submit(write, driver, NAME, b"1").result()
    assert not (tmp_path / "keystore").exists()


def test_check_creates_nothing_at_an_unmounted_volume(tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    driver = opened(keystore)
    keystore.rename(tmp_path / "elsewhere")
    keystore.mkdir()
    for call in (driver.check, partial(put, driver, NAME, b"1", if_etag=None)):
        with pytest.raises(StoreMisconfiguredError, match="mounted"):
            call()
    assert not list(keystore.iterdir())


def test_check_creates_nothing_in_a_mount_point_whose_volume_disappears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore = tmp_path / "keystore"
    driver = opened(keystore)
    shutil.rmtree(keystore / "_kekd")
    mkdir = os.mkdir

    def mkdir_after_the_unmount(*arguments: Any, **keywords: Any) -> None:
        if not (tmp_path / "elsewhere").exists():
            keystore.rename(tmp_path / "elsewhere")
            mkdir(keystore)
        mkdir(*arguments, **keywords)

    monkeypatch.setattr(os, "mkdir", mkdir_after_the_unmount)
    driver.check()
    assert not list(keystore.iterdir())
    assert (tmp_path / "elsewhere" / "_kekd" / "locks").is_dir()


@pytest.mark.parametrize("gone", ["_kekd", "_kekd/tmp", "_kekd/locks"])
def test_missing_folders_of_kekd_are_created_again(tmp_path: Path, gone: str) -> None:
    """A copy may have replaced the keystore."""
    driver = opened(tmp_path)
    put(driver, NAME, b"1", if_etag=None)
    shutil.rmtree(tmp_path / gone)
    with pytest.raises(StoreUnavailableError, match="created it again"):
        put(driver, NAME, b"2", if_etag=None)
    driver.check()
    put(driver, NAME, b"2", if_etag=None)
    assert delete(driver, NAME, if_etag=None)


def made_by_cyborgdb(root: Path) -> None:
    """A keystore with a record, and without kekd's folders."""
    assert create(opened(root), NAME, b"1")
    shutil.rmtree(root / "_kekd")


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_keystore_of_cyborgdb_on_an_unwritable_disk_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    made_by_cyborgdb(tmp_path)
    driver, why = DiskDriver(tmp_path), os.strerror(code)
    with monkeypatch.context() as unwritable:
        unwritable.setattr(os, "mkdir", Mock(side_effect=OSError(code, why)))
        assert not driver.open()
        driver.check()
        assert driver.get(NAME).record == b"1"
        write = partial(put, driver, NAME, b"2", if_etag=None)
        for call in (driver.check_writes, driver.probe, write):
            with pytest.raises(StoreMisconfiguredError, match=why):
                call()
    driver.check()
    driver.check_writes()
    put(driver, NAME, b"2", if_etag=None)


def test_keystore_of_cyborgdb_that_cannot_be_read_either_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by_cyborgdb(tmp_path)
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(os, "mkdir", Mock(side_effect=denied))
    monkeypatch.setattr(os, "access", Mock(return_value=False))
    with pytest.raises(StoreMisconfiguredError, match="Permission denied"):
        DiskDriver(tmp_path).open()


def test_new_keystore_on_a_full_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, full = os.mkdir, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def mkdir_of_records(path: Path, *arguments: Any, **keywords: Any) -> None:
        if "_kekd" in Path(path).parts:
            raise full
        mkdir(path, *arguments, **keywords)

    monkeypatch.setattr(os, "mkdir", mkdir_of_records)
    with pytest.raises(StoreMisconfiguredError, match="No space left"):
        DiskDriver(tmp_path).open(create=True)


def test_delete_that_another_daemon_started_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        with pytest.raises(StoreUnavailableError):
            delete(driver, NAME, if_etag=None)
    fsync = Mock(side_effect=os.fsync)
    monkeypatch.setattr(os, "fsync", fsync)
    assert delete(driver, NAME, if_etag=None) is None
    assert fsync.called


def test_wait_for_a_lock_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_locks, "_LOCK_TIMEOUT", 0.2)
    driver = opened(tmp_path)
    put(driver, NAME, b"1", if_etag=None)
    (path,) = (tmp_path / "_kekd" / "locks").iterdir()
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for write in (partial(put, record=b"2"), delete):
            with pytest.raises(StoreTimeoutError, match=str(path)):
                write(driver, NAME, if_etag=None)
    assert driver.get(NAME).record == b"1"
    assert delete(driver, NAME, if_etag=None)


def test_writes_that_wait_for_each_other_do_not_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait for a lock times out after three fsyncs, in which another write uses the lock."""
    drivers = [opened(tmp_path), opened(tmp_path)]
    really_sync, really_acquire = os.fsync, write_locks._acquire
    syncs: list[int] = []

    def sync(file: int) -> None:
        syncs.append(file)
        time.sleep(0.02)  # so that two writes differ in their times
        really_sync(file)

    def acquire(try_acquire: Callable[[float], bool], path: str) -> None:
        def try_during_a_write(timeout: float) -> bool:
            end = len(syncs) + 3
            while not try_acquire(min(timeout, 0.01)):
                if not timeout or len(syncs) >= end:
                    return False
            return True

        really_acquire(try_during_a_write, path)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(write_locks, "_acquire", acquire)

    def write(number: int) -> None:
        put(drivers[number % 2], NAME, b"%d" % number, if_etag=None)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(write, range(16)))


def test_folders_and_files_are_accessible_to_the_owner_only(tmp_path: Path) -> None:
    create(opened(tmp_path / "new"), NAME, b"1")
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}


def test_listing_reads_the_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = DiskHarness(tmp_path)
    for number in range(10):
        harness.write(f"{number}.kms.cat", b"1")
    reads = Mock(side_effect=os.listdir)
    monkeypatch.setattr(os, "listdir", reads)
    page = harness.driver.list(ALL, None, 3, listing="l")
    while len(page) == 3:
        page = harness.driver.list(ALL, page[-1], 3, listing="l")
    assert reads.call_count == 1


def names(count: int) -> list[IndexName]:
    return [IndexName(f"{number:02}") for number in range(count)]


def listed_by(driver: DiskDriver) -> list[str]:
    """Returns the listings whose keys are cached, oldest first."""
    return [listing for listing, _ in driver._listings._cached._values]


def bound_listings(driver: DiskDriver, most: int) -> None:
    """Limits the cache to that many listings of ten keys."""
    driver.list(ALL, None, 3, listing="0")
    driver._listings._cached._max_bytes = round(driver._listings._cached.size * (most + 0.5))


@pytest.fixture
def ten(tmp_path: Path) -> DiskDriver:
    driver = opened(tmp_path)
    for name in names(10):
        create(driver, name, b"1")
    return driver


def test_unfinished_listings_are_cached_up_to_a_limit(ten: DiskDriver) -> None:
    bound_listings(ten, 3)
    for number in range(20):
        ten.list(ALL, None, 3, listing=f"{number}")
    assert listed_by(ten) == ["17", "18", "19"]
    ten.list(ALL, None, 3, listing="17")
    ten.list(ALL, None, 3, listing="20")
    assert listed_by(ten) == ["19", "17", "20"], "the least lately continued goes first"


def test_newest_listing_is_cached_at_any_length(ten: DiskDriver) -> None:
    bound_listings(ten, 0)
    for listing in ("older", "younger"):
        ten.list(ALL, None, 3, listing=listing)
    assert listed_by(ten) == ["younger"]


def test_listing_whose_keys_were_evicted_continues(ten: DiskDriver) -> None:
    bound_listings(ten, 0)
    listed = ten.list(ALL, None, 3, listing="dropped")
    for _ in range(3):
        ten.list(ALL, None, 3, listing="younger")
        assert "dropped" not in listed_by(ten)
        listed += ten.list(ALL, listed[-1], 3, listing="dropped")
    assert listed == names(10)


def test_start_removes_temporary_files_of_a_killed_daemon(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    put(driver, NAME, b"1", if_etag=None)
    (folder,) = (tmp_path / "_kekd" / "tmp").iterdir()
    (folder / "left").write_bytes(b"2")
    opened(tmp_path)
    assert not list(folder.iterdir())
    put(driver, NAME, b"2", if_etag=None)


def test_start_succeeds_if_temporary_files_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk may be read-only."""
    driver = opened(tmp_path)
    put(driver, NAME, b"1", if_etag=None)
    (folder,) = (tmp_path / "_kekd" / "tmp").iterdir()
    (folder / "left").touch()
    monkeypatch.setattr(os, "unlink", Mock(side_effect=OSError(errno.EROFS, "Read-only")))
    assert opened(tmp_path).get(NAME).record == b"1"
    assert f"{folder} cannot be removed: Read-only" in caplog.text


def test_listing_of_single_names_does_not_read_the_folder(
    ten: DiskDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = KeyRanges.of([IndexRange("01", is_exact=True), IndexRange("never", is_exact=True)])
    monkeypatch.setattr(os, "listdir", None)
    assert ten.list(wanted, None, 10, listing="l") == [IndexName("01")]


def test_listing_caches_only_keys_in_its_ranges(ten: DiskDriver) -> None:
    ten.list(KeyRanges.of([IndexRange("0")]), None, 1, listing="l")
    (kept,) = ten._listings._cached._values.values()
    assert len(kept.keys) == 10
    ten.list(KeyRanges.of([IndexRange("07")]), None, 1, listing="m")
    assert [len(listing.keys) for listing in ten._listings._cached._values.values()] == [10, 1]


WRITING_PROCESS = """
import sys
from pathlib import Path
from kekd_server.model.index_name import IndexName
from tests.fixtures.disk import opened
from tests.fixtures.writes import create, delete, put

driver, number = opened(Path(sys.argv[1])), 0
print("at work", flush=True)
while True:
    number += 1
    name = IndexName(str(number % 10))
    put(driver, name, b"1", if_etag=None)
    delete(driver, name, if_etag=None)
    create(driver, name, b"2")
"""


@pytest.fixture
def writing_process(tmp_path: Path) -> Iterator[Path]:
    """A keystore to which another process writes continuously and without an error."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITING_PROCESS, tmp_path], stdout=subprocess.PIPE
    ) as others:
        assert others.stdout
        others.stdout.readline()
        yield tmp_path
        assert others.poll() is None
        others.kill()


def test_start_keeps_temporary_files_in_use(writing_process: Path) -> None:
    for _ in range(300):
        opened(writing_process)


def test_attempt_applied_by_another_daemon_returns_its_result(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    written = put(one, NAME, b"mine", if_etag=None, attempt=FIRST)
    put(one, NAME, b"theirs", if_etag=None)
    assert put(other, NAME, b"mine", if_etag=None, attempt=RETRY) == written


def test_late_attempt_is_not_applied_after_its_retry(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    written = put(one, NAME, b"mine", if_etag=None, attempt=RETRY)
    put(one, NAME, b"theirs", if_etag=None)
    assert put(other, NAME, b"mine", if_etag=None, attempt=FIRST) == written
    assert one.get(NAME).record == b"theirs"


def test_late_attempt_is_not_applied_after_its_refused_retry(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    etag = create(one, NAME, b"old")
    put(one, NAME, b"new", if_etag=None)
    with pytest.raises(EtagMismatchError):
        put(one, NAME, b"mine", if_etag=etag, attempt=RETRY)
    put(one, NAME, b"old", if_etag=None)
    with pytest.raises(EtagMismatchError):
        put(other, NAME, b"mine", if_etag=etag, attempt=FIRST)


def test_late_delete_is_not_applied_after_its_retry_found_nothing(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    assert delete(one, NAME, if_etag=None, attempt=RETRY) is None
    create(one, NAME, b"theirs")
    assert delete(other, NAME, if_etag=None, attempt=FIRST) is None
    assert one.get(NAME).record == b"theirs"


def test_delete_that_found_nothing_finds_nothing_at_its_retry(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    assert delete(one, NAME, if_etag=None, attempt=FIRST) is None
    create(one, NAME, b"theirs")
    assert delete(other, NAME, if_etag=None, attempt=RETRY) is None
    assert one.get(NAME).record == b"theirs"


@pytest.mark.parametrize("is_applied", [True, False])
@pytest.mark.parametrize("is_rival", [True, False])
def test_retry_of_a_write_at_which_a_daemon_died_is_applied_once_unless_others_wrote_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_applied: bool, is_rival: bool
) -> None:
    driver, really_rename = opened(tmp_path), os.rename

    def die(source: str, target: Path) -> None:
        if is_applied:
            really_rename(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        put(driver, NAME, b"mine", if_etag=None, attempt=FIRST)
    monkeypatch.setattr(os, "rename", really_rename)
    if is_rival:
        put(driver, NAME, b"theirs", if_etag=None)
        delete(driver, NAME, if_etag=None)
        with pytest.raises(OutcomeUnknownError):
            put(driver, NAME, b"mine", if_etag=None, attempt=RETRY)
    else:
        assert put(driver, NAME, b"mine", if_etag=None, attempt=RETRY).etag
        assert driver.get(NAME).record == b"mine"


def create_once(driver: Driver, attempt: WriteAttempt) -> object:
    return create(driver, NAME, b"mine", attempt=attempt)


def put_once(driver: Driver, attempt: WriteAttempt) -> object:
    return put(driver, NAME, b"mine", if_etag=None, attempt=attempt)


def delete_once(driver: Driver, attempt: WriteAttempt) -> object:
    return delete(driver, NAME, if_etag=None, attempt=attempt)


@pytest.mark.parametrize("is_applied", [True, False])
@pytest.mark.parametrize(
    ("before", "write", "system_call", "after"),
    [
        (None, create_once, "link", b"mine"),
        (b"old", put_once, "rename", b"mine"),
        (b"old", delete_once, "unlink", None),
    ],
)
def test_retry_after_a_failed_system_call_succeeds_whether_or_not_that_was_applied(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: bytes | None,
    write: Callable[[Driver, WriteAttempt], object],
    system_call: str,
    after: bytes | None,
    is_applied: bool,
) -> None:
    harness = DiskHarness(tmp_path)
    if before:
        put(harness.driver, NAME, before, if_etag=None)
    really_call = getattr(os, system_call)

    def fail(*paths: str | Path, **options: int) -> None:
        if not str(paths[-1]).endswith(NAME.key):  # a link in the history
            really_call(*paths, **options)
            return
        monkeypatch.setattr(os, system_call, really_call)
        if is_applied:
            really_call(*paths, **options)
        raise OSError(errno.EIO, "failed")

    monkeypatch.setattr(os, system_call, fail)
    with pytest.raises(StoreUnavailableError):
        write(harness.driver, FIRST)
    assert write(harness.driver, RETRY)
    assert harness.read(NAME.key) == after


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize(
    "write",
    [
        lambda driver: create(driver, IndexName("other"), b"new"),
        lambda driver: put(driver, NAME, b"new", if_etag=None),
        lambda driver: delete(driver, NAME, if_etag=None),
    ],
    ids=["create", "put", "delete"],
)
def test_visible_write_whose_folder_is_not_synced_is_no_refusal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    write: Callable[[DiskDriver], object],
) -> None:
    driver = opened(tmp_path)
    put(driver, NAME, b"old", if_etag=None)
    monkeypatch.setattr(syncs, "sync_folder", Mock(side_effect=OSError(code, os.strerror(code))))
    with pytest.raises(StoreUnavailableError, match=os.strerror(code)):
        write(driver)


def test_retry_is_durable_before_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    put(driver, NAME, b"mine", if_etag=None, attempt=FIRST)
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.EIO, "not synced")))
    with pytest.raises(StoreUnavailableError):
        put(driver, NAME, b"mine", if_etag=None, attempt=RETRY)
