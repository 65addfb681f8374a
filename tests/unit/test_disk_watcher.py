"""No event of the kernel is lost on its way to the subscriptions."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest

from kekd_schema import Envelope
from kekd_server.model.errors import StoreMisconfiguredError
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.disk.watcher import DiskWatcher, _WatchedFolder
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.etag import etag_of
from kekd_server.storage.location import DiskLocation
from kekd_server.storage.store import Store
from kekd_server.storage.watch.event import Change, ChangeKind, OwnChange
from kekd_server.storage.writes.steps import Steps
from tests.fixtures.writes import create, put
from tests.patience import PATIENCE
from tests.unit.waiting import reached

ONE, OTHER = IndexName("i"), IndexName("j")


class StuckDriver(DiskDriver):
    """Its puts wait for a lock that is never released."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.go_on = threading.Event()
        self.waiting = 0
        put_now = self.put

        def put_late(*arguments: Any, **options: Any) -> Steps[WriteResult]:
            self.waiting += 1
            self.go_on.wait(PATIENCE)
            return (yield from put_now(*arguments, **options))

        self.put = put_late


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[StuckDriver]:
    driver = StuckDriver(tmp_path)
    driver.open(create=True)
    yield driver
    driver.go_on.set()


@pytest.fixture
def store(driver: StuckDriver, tmp_path: Path) -> Iterator[Store]:
    location = DiskLocation(str(tmp_path))
    with closing(Store(location, driver, threads=2, watcher=DiskWatcher(driver))) as store:
        yield store


async def test_calls_that_wait_for_a_lock_delay_no_change(
    store: Store, driver: StuckDriver
) -> None:
    async with store.watch(NamePrefix("")) as subscription:
        envelope = Envelope(provider="none")
        waiting = [asyncio.create_task(store.put(ONE, envelope, if_etag=None)) for _ in range(4)]
        await reached(lambda: driver.waiting == 2)  # all threads of the store
        (driver.records_folder / OTHER.key).touch()
        event = await subscription.next(PATIENCE)
        assert isinstance(event, Change)
        assert event.name == OTHER
        driver.go_on.set()
        await asyncio.gather(*waiting)


def test_own_write_is_reported_without_reading_it(
    driver: StuckDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(_WatchedFolder(driver.records_folder)) as folder:
        driver.go_on.set()
        written = put(driver, ONE, b"new", if_etag=None)
        monkeypatch.setattr(driver, "get", Mock(side_effect=AssertionError))
        changes = DiskWatcher(driver)._changes(folder)
    assert changes == [OwnChange(ChangeKind.PUSHED, ONE, written.etag)]
    assert isinstance(changes[0], OwnChange)


def test_write_into_an_own_record_is_read(driver: DiskDriver) -> None:
    record = driver.records_folder / ONE.key
    with closing(_WatchedFolder(driver.records_folder)) as folder:
        create(driver, ONE, b"own")
        times = record.stat()
        record.write_bytes(b"foreign")
        os.utime(record, ns=(times.st_atime_ns, times.st_mtime_ns))
        changes = DiskWatcher(driver)._changes(folder)
    assert changes == [Change(ChangeKind.PUSHED, ONE, etag_of(b"foreign"))]
    assert not isinstance(changes[0], OwnChange)


async def test_poll_without_changes_yields_an_empty_list(driver: DiskDriver) -> None:
    with patch("kekd_server.storage.disk.watcher._POLL_INTERVAL", 0.01):
        async with aclosing(DiskWatcher(driver).poll(asyncio.to_thread)) as polls:
            for _ in range(3):
                assert await asyncio.wait_for(anext(polls), PATIENCE) == []


async def test_unreadable_file_is_one_change_without_an_etag(
    store: Store, driver: DiskDriver, caplog: pytest.LogCaptureFixture
) -> None:
    loop = driver.records_folder / ONE.key
    async with store.watch(NamePrefix("")) as subscription:
        loop.symlink_to(loop)
        assert await subscription.next(PATIENCE) == Change(ChangeKind.CREATED, ONE)
        (driver.records_folder / OTHER.key).touch()
        event = await subscription.next(PATIENCE)
        assert isinstance(event, Change)
        assert event.name == OTHER
    assert f"{loop} changed, and cannot be read" in caplog.text


@pytest.mark.parametrize("files", [1000, 1001, 1010, 1020, 1021])
async def test_events_read_together_are_all_handled(tmp_path: Path, files: int) -> None:
    with closing(_WatchedFolder(tmp_path)) as folder:
        for number in range(files):
            (tmp_path / f"{number}.kms.cat").symlink_to("nowhere")
        taken: list[str] = []
        while await folder.has_events():
            taken += [str(event.name) for event in folder.take_events()]
    assert taken == [f"{number}.kms.cat" for number in range(files)]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errno.EMFILE, "Too many open files; raise the limit of fs.inotify.max_user_instances"),
        (errno.ENOSPC, "No space left on device; raise the limit of fs.inotify.max_user_watches"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_exhausted_limit_of_the_kernel_is_named(tmp_path: Path, error: int, text: str) -> None:
    refused = OSError(error, os.strerror(error))
    with (
        patch("kekd_server.storage.disk.watcher.Inotify", side_effect=refused),
        pytest.raises(StoreMisconfiguredError) as failed,
    ):
        _WatchedFolder(tmp_path)
    assert str(failed.value).startswith(f"the folder {tmp_path} cannot be watched: {text}")
