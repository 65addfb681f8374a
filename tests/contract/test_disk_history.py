"""The history of a keystore folder, where it meets the filesystem and other programs."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import Mock

import pytest

from kekd_server.model.errors import (
    CorruptVersionError,
    EnvelopeHeldError,
    EtagMismatchError,
    HistoryUnavailableError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
    VersionNotFoundError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import write_locks
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.disk.history import newest_versions
from kekd_server.storage.driver import StoredRecord, WriteResult
from kekd_server.storage.etag import etag_of
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.history.version import Origin, VersionEvent
from kekd_server.storage.writes.steps import RunningWrite
from tests.contract.driver_contract import NAME
from tests.contract.history_contract import HOLD, OTHER, REPEATS, events_of, versions_of
from tests.contract.import_contract import CREATED, past, refuses_without_a_history
from tests.fixtures.disk import opened
from tests.fixtures.writes import PUSHED, create, delete, put, undelete

PUSH: Any = {"origin": PUSHED, "attempt": None}
OPTIONAL = Retention(is_required=False)


def record_path(root: Path) -> Path:
    return root / "_catalog/config" / NAME.key


def history_path(root: Path) -> Path:
    return root / "_kekd/history" / NAME.key


def foreign_write(root: Path, record: bytes) -> None:
    """Replaces the record as CyborgDB does."""
    temporary = root / "foreign"
    temporary.write_bytes(record)
    temporary.rename(record_path(root))


def fail_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Makes each link in a history fail."""
    link = os.link

    def fail(source: str, target: str, **options: bool) -> None:
        if "/_kekd/history/" in str(target):
            raise OSError(code, os.strerror(code))
        link(source, target, **options)

    monkeypatch.setattr(os, "link", fail)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_start_without_hard_links_into_the_history_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fail_links(monkeypatch, code)
    with pytest.raises(StoreMisconfiguredError, match=r"set history_versions to 0"):
        opened(tmp_path)
    create(opened(tmp_path, Retention(versions=0)), NAME, b"1")


def test_start_with_the_history_on_another_filesystem_is_refused(tmp_path: Path) -> None:
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second filesystem")
    with TemporaryDirectory(dir="/dev/shm") as other:
        (tmp_path / "_kekd").symlink_to(other)
        with pytest.raises(StoreMisconfiguredError, match="must be on the filesystem of the rec"):
            opened(tmp_path)


@pytest.mark.parametrize("retention", [Retention(), Retention(versions=0)])
def test_record_of_another_user_that_cannot_be_linked_is_a_limitation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retention: Retention
) -> None:
    driver = opened(tmp_path, retention)
    create(driver, NAME, b"1")
    assert not driver.find_limitations()
    monkeypatch.setattr(os, "geteuid", lambda: record_path(tmp_path).stat().st_uid + 1)
    assert not driver.find_limitations()
    fail_links(monkeypatch, errno.EPERM)
    limitation = driver.find_limitations()
    assert ("Operation not permitted; make kekd's user" in limitation) == retention.is_on


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize(
    "write",
    [
        lambda driver: put(driver, NAME, b"2", if_etag=None),
        lambda driver: create(driver, OTHER, b"2"),
    ],
)
def test_write_without_a_version_is_refused_and_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    write: Callable[[DiskDriver], object],
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    fail_links(monkeypatch, code)
    with pytest.raises(HistoryUnavailableError, match=os.strerror(code)):
        write(driver)
    (record,) = (tmp_path / "_catalog/config").iterdir()
    assert record.read_bytes() == b"1"


def test_write_without_a_version_continues_if_the_history_is_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = opened(tmp_path, OPTIONAL)
    fail_links(monkeypatch, errno.ENOSPC)
    with caplog.at_level(logging.WARNING):
        create(driver, NAME, b"1")
        put(driver, NAME, b"2", if_etag=None)
    assert driver.get(NAME).record == b"2"
    assert caplog.text.count("the history of index 'my_index' is not up to date") == 1
    assert driver.history_failures.total == 2


@pytest.mark.parametrize(
    ("retention", "fails"), [(Retention(), True), (OPTIONAL, False), (Retention(versions=0), False)]
)
def test_store_with_an_unwritable_history_is_down_only_if_writes_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retention: Retention, fails: bool
) -> None:
    driver = opened(tmp_path, retention)
    history = tmp_path / "_kekd/history"
    monkeypatch.setattr(os, "access", lambda path, *_, **__: path != history)
    with pytest.raises(StoreMisconfiguredError) if fails else nullcontext():
        driver.check_writes()


def test_delete_on_a_full_disk_succeeds_and_keeps_the_last_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    really_open = os.open

    def fail(path: str, flags: int, *rest: int, **options: int) -> int:
        if flags & os.O_CREAT and "/_kekd/history/" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really_open(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", fail)
    delete(driver, NAME, if_etag=None)
    monkeypatch.setattr(os, "open", really_open)
    assert not record_path(tmp_path).exists()
    assert events_of(driver) == ["deleted", "created"]


def test_create_after_a_foreign_deletion_keeps_the_deletion(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    record_path(tmp_path).unlink()
    create(driver, NAME, b"2")
    assert events_of(driver) == ["created", "deleted", "created"]


def test_create_without_the_folder_of_the_histories_keeps_its_version(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    shutil.rmtree(tmp_path / "_kekd/history")
    create(driver, NAME, b"1")
    assert events_of(driver) == ["created"]


def test_delete_without_an_entry_in_the_ledger_leaves_its_deletion_to_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(os, "pwrite", Mock(side_effect=full))
        delete(driver, NAME, if_etag=None)
    assert len(list(history_path(tmp_path).iterdir())) == 1
    assert events_of(driver) == ["deleted", "created"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_history_on_a_disk_that_cannot_be_written_is_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    create(opened(tmp_path), NAME, b"1")
    foreign_write(tmp_path, b"2")
    really_open = os.open

    def fail(path: str, flags: int, *rest: int, **options: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(code, os.strerror(code))
        return really_open(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", fail)
    fail_links(monkeypatch, code)
    driver = opened(tmp_path, OPTIONAL)
    (created,) = versions_of(driver)
    assert driver.get_version(NAME, created.id).record == b"1"
    assert driver.history_failures.total == 0


def test_version_that_is_removed_during_a_read_without_the_lock_is_not_found(
    tmp_path: Path,
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    history = driver._history.open(NAME)
    (created,) = history.versions()
    shutil.rmtree(history_path(tmp_path))
    assert history.versions() == []
    with pytest.raises(VersionNotFoundError):
        history.read(created.id)


def test_lost_history_makes_no_record_unreadable(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    shutil.rmtree(tmp_path / "_kekd/history")
    assert driver.get(NAME).record == b"1"
    put(driver, NAME, b"2", if_etag=None)
    assert events_of(driver) == ["pushed", "found"]


def test_keystore_without_a_history_gets_one_in_the_background(tmp_path: Path) -> None:
    old = opened(tmp_path, Retention(versions=0))
    create(old, NAME, b"1")
    put(old, OTHER, b"2", if_etag=None)
    driver = opened(tmp_path)
    list(driver.maintain_history())
    (found,) = history_path(tmp_path).iterdir()
    assert "-found-" in found.name
    assert found.stat().st_ino == record_path(tmp_path).stat().st_ino


def test_history_that_is_switched_off_stays_readable(tmp_path: Path) -> None:
    create(opened(tmp_path), NAME, b"1")
    driver = opened(tmp_path, Retention(days=0))
    put(driver, NAME, b"2", if_etag=None)
    (created,) = versions_of(driver)
    assert driver.get_version(NAME, created.id).record == b"1"


def test_history_that_is_switched_on_again_continues(tmp_path: Path) -> None:
    create(opened(tmp_path), NAME, b"1")
    put(opened(tmp_path, Retention(versions=0)), NAME, b"2", if_etag=None)
    driver = opened(tmp_path)
    put(driver, NAME, b"3", if_etag=None)
    assert events_of(driver) == ["pushed", "found", "created"]


def test_killed_undelete_leaves_the_index_deleted_or_undeleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    delete(driver, NAME, if_etag=None)
    link = os.link

    def fail(source: str, target: str, **options: bool) -> None:
        if str(target) == str(record_path(tmp_path)):
            raise KeyboardInterrupt
        link(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fail)
        with pytest.raises(KeyboardInterrupt):
            undelete(driver, NAME, validate=lambda *_: None)
    assert not record_path(tmp_path).exists()
    undelete(opened(tmp_path), NAME, validate=lambda *_: None)
    assert record_path(tmp_path).read_bytes() == b"1"


def test_version_takes_no_room_while_it_is_the_record(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    (version,) = history_path(tmp_path).iterdir()
    assert version.stat().st_ino == record_path(tmp_path).stat().st_ino


def test_clock_that_was_set_back_does_not_reorder_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    put(driver, NAME, b"2", if_etag=None)
    delete(driver, NAME, if_etag=None)
    assert events_of(driver) == ["deleted", "pushed", "created"]


def test_record_overwritten_in_place_becomes_a_found_version(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    record_path(tmp_path).write_bytes(b"in place")
    (found,) = versions_of(driver)
    assert found.event is VersionEvent.FOUND
    assert driver.get_version(NAME, found.id).record == b"in place"


def overwrite_in_place(root: Path, record: bytes) -> None:
    """Leaves the inode and the time of modification as they were."""
    stat = record_path(root).stat()
    record_path(root).write_bytes(record)
    os.utime(record_path(root), ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("is_own", [True, False])
def test_record_overwritten_in_place_is_kept_when_the_change_is_noticed(
    tmp_path: Path, is_own: bool
) -> None:
    writer = opened(tmp_path)
    create(writer, NAME, b"1")
    driver = writer if is_own else opened(tmp_path)
    overwrite_in_place(tmp_path, b"in place")
    assert not driver.notice_change(NAME)
    assert [path.name.split("-")[1] for path in history_path(tmp_path).iterdir()] == ["found"]


def test_record_overwritten_in_place_before_the_start_is_kept_by_the_scan(tmp_path: Path) -> None:
    create(opened(tmp_path), NAME, b"1")
    overwrite_in_place(tmp_path, b"in place")
    list(opened(tmp_path).maintain_history())
    assert [path.name.split("-")[1] for path in history_path(tmp_path).iterdir()] == ["found"]


def test_link_in_the_place_of_a_record_needs_no_change_of_the_history(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    (tmp_path / "elsewhere").write_bytes(b"other")
    record_path(tmp_path).unlink()
    record_path(tmp_path).symlink_to(tmp_path / "elsewhere")
    assert driver._history.is_settled(NAME)  # the scan would try again each hour


@pytest.mark.parametrize("is_own", [True, False])
def test_held_record_overwritten_in_place_and_back_is_a_breach(
    tmp_path: Path, is_own: bool
) -> None:
    writer = opened(tmp_path)
    create(writer, NAME, b"1")
    driver = writer if is_own else opened(tmp_path)
    driver.hold(NAME, HOLD)
    for record in (b"in place", b"1"):
        overwrite_in_place(tmp_path, record)
        assert driver.notice_change(NAME)
    assert NAME in list(driver.maintain_history())


def test_version_whose_file_was_changed_is_corrupt(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    put(driver, NAME, b"2", if_etag=None)
    created = versions_of(driver)[1]
    (file,) = history_path(tmp_path).glob("*-created-*")
    file.write_bytes(b"changed")
    with pytest.raises(CorruptVersionError, match="its file was changed"):
        driver.get_version(NAME, created.id)


@pytest.mark.parametrize("start", ["", "a", "ab", "abc", "abcd", "abcde"])
def test_long_caller_is_cut_between_two_characters(tmp_path: Path, start: str) -> None:
    driver = opened(tmp_path)
    caller = f"{start}spiffe://example.org/" + "é" * 2000
    create(driver, NAME, b"1", origin=Origin(VersionEvent.CREATED, caller))
    (created,) = versions_of(driver)
    assert caller.startswith(created.caller)
    assert len(created.caller) > 30


def test_unknown_files_in_a_history_are_ignored_and_reported_by_destroy(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    (history_path(tmp_path) / "note").write_text("by hand")
    assert events_of(driver) == ["created"]
    (remaining,) = driver.destroy(NAME, if_etag=None, digest=str).remaining
    assert remaining.id.endswith("/note")
    assert "remove it yourself" in remaining.why


@pytest.mark.parametrize("place", [0, 1, 2])
def test_destroy_continues_after_a_version_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    driver = opened(tmp_path)
    for record in (b"1", b"2", b"3"):
        put(driver, NAME, record, if_etag=None)
    immutable = sorted(history_path(tmp_path).iterdir())[place]
    unlink = os.unlink

    def fail(path: str) -> None:
        if str(path) == str(immutable):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(path)

    monkeypatch.setattr(os, "unlink", fail)
    receipt = driver.destroy(NAME, if_etag=None, digest=str)
    (remaining,) = receipt.remaining
    assert remaining.id == str(immutable)
    assert "it could not be removed: Operation not permitted" in remaining.why
    assert not record_path(tmp_path).exists()
    assert list(history_path(tmp_path).iterdir()) == [immutable]
    monkeypatch.setattr(os, "unlink", unlink)
    assert not driver.destroy(NAME, if_etag=None, digest=str).remaining
    assert not history_path(tmp_path).exists()


@pytest.mark.parametrize("content", [b"\xff", b"1", b"[1]", b"[[]]"])
def test_damaged_mark_does_not_prevent_a_destroy(tmp_path: Path, content: bytes) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    (tmp_path / "_kekd/destructions" / NAME.key).write_bytes(content)
    assert len(driver.destroy(NAME, if_etag=None, digest=str).destroyed) == 1
    assert not list((tmp_path / "_kekd/destructions").iterdir())


def test_destroy_on_a_full_disk_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "write", Mock(side_effect=full))
    assert len(driver.destroy(NAME, if_etag=None, digest=str).destroyed) == 1
    assert not record_path(tmp_path).exists()


def test_destroy_reports_a_folder_with_the_name_of_a_version(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    folder = history_path(tmp_path) / "0000000000000001-created-abc-x"
    folder.mkdir()
    receipt = driver.destroy(NAME, if_etag=None, digest=str)
    assert len(receipt.destroyed) == 1
    assert [version.id for version in receipt.remaining] == [str(folder)]


def test_destroy_reports_a_file_in_the_place_of_the_history(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    shutil.rmtree(history_path(tmp_path))
    history_path(tmp_path).write_text("no folder")
    receipt = driver.destroy(NAME, if_etag=None, digest=str)
    assert len(receipt.destroyed) == 1
    assert [version.id for version in receipt.remaining] == [str(history_path(tmp_path))]


def test_destroy_reports_files_that_a_killed_cyborgdb_left(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    left = record_path(tmp_path).with_name(f"{NAME.key}.4711.3.tmp")
    for path in (left, record_path(tmp_path).with_name(f"other_{NAME.key}.4711.3.tmp")):
        path.write_bytes(b"1")
    (remaining,) = driver.destroy(NAME, if_etag=None, digest=str).remaining
    assert remaining.id == str(left)
    assert "cyborgdb_core has not finished this file" in remaining.why


def test_destroy_without_a_history_has_the_record_in_its_receipt(tmp_path: Path) -> None:
    driver = opened(tmp_path, Retention(versions=0))
    etag = create(driver, NAME, b"1")
    ((version_id, of_record, digest),) = driver.destroy(
        NAME, if_etag=None, digest=lambda record: record.decode()
    ).destroyed
    assert (version_id, of_record, digest) == ("", etag, "1")


def test_record_that_is_no_file_is_replaced_without_a_version(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    record_path(tmp_path).symlink_to("nowhere")
    put(driver, NAME, b"1", if_etag=None)
    assert events_of(driver) == ["pushed"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"[]",
        b'{"reason": 1, "caller": "c", "time_ns": 1, "etag": "e"}',
        b'{"reason": "r", "caller": "c", "time_ns": "1", "etag": "e"}',
        b'{"reason": "r", "caller": "c", "time_ns": 1, "etag": 1}',
    ],
)
def test_damaged_hold_still_holds(tmp_path: Path, content: bytes) -> None:
    driver = opened(tmp_path)
    driver.hold(NAME, HOLD)
    (tmp_path / "_kekd/holds" / NAME.key).write_bytes(content)
    with pytest.raises(EnvelopeHeldError, match="is held: its file is damaged"):
        create(driver, NAME, b"1")
    assert not driver.notice_change(NAME)


def test_held_versions_do_not_expire(tmp_path: Path) -> None:
    driver = opened(tmp_path, Retention(versions=1))
    create(driver, NAME, b"1")
    put(driver, NAME, b"2", if_etag=None)
    driver.hold(NAME, HOLD)
    list(driver.maintain_history())
    assert len(versions_of(driver)) == 2
    driver.release(NAME)
    restarted = opened(tmp_path, Retention(versions=1))
    list(restarted.maintain_history())
    assert len(versions_of(restarted)) == 1


def test_foreign_writes_cannot_outrun_the_background(tmp_path: Path) -> None:
    driver = opened(tmp_path, Retention(versions=2))
    list(driver.maintain_history())
    for number in range(20):
        foreign_write(tmp_path, b"%d" % number)
        driver.notice_change(NAME)
        list(driver.maintain_history())
    assert len(versions_of(driver)) == 2


def test_writes_during_the_background_work_do_not_delay_the_scan(tmp_path: Path) -> None:
    driver = opened(tmp_path, Retention(versions=1))
    (tmp_path / f"_catalog/config/{OTHER.key}").write_bytes(b"foreign")
    create(driver, NAME, b"0")
    put(driver, NAME, b"1", if_etag=None)
    for number, _ in enumerate(driver.maintain_history()):
        if (tmp_path / "_kekd/history" / OTHER.key).exists():
            break
        assert number < 20
        put(driver, NAME, b"%d" % number, if_etag=None)


def test_damaged_history_of_one_index_hides_no_other_from_the_scan(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    (tmp_path / "_kekd/history/a.kms.cat").write_text("no folder")
    for name in ("a", "b"):
        (tmp_path / f"_catalog/config/{name}.kms.cat").write_bytes(b"1")
    list(driver.maintain_history())
    assert list((tmp_path / "_kekd/history/b.kms.cat").glob("*-found-*"))
    assert driver.history_failures.total == 1


def test_scan_finds_a_breach_that_happened_before_the_start(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    driver.hold(NAME, HOLD)
    foreign_write(tmp_path, b"2")
    versions_of(driver)  # another daemon may have added the version
    assert NAME in list(opened(tmp_path).maintain_history())


@pytest.mark.parametrize("retention", [Retention(), Retention(versions=0)])
def test_breach_is_noticed_after_the_clock_was_set_back_and_without_a_history(
    tmp_path: Path, retention: Retention
) -> None:
    driver = opened(tmp_path, retention)
    create(driver, NAME, b"1")
    driver.hold(NAME, HOLD._replace(time_ns=2 * time.time_ns()))
    assert not driver.notice_change(NAME)
    foreign_write(tmp_path, b"2")
    assert driver.notice_change(NAME)
    assert NAME in list(driver.maintain_history())


def test_scheduled_scan_waits_for_the_shortest_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    list(driver.maintain_history())
    record_path(tmp_path).write_bytes(b"1")
    driver.schedule_scan()
    assert not list(driver.maintain_history())
    later = time.monotonic() + 10
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert list(driver.maintain_history())
    assert not list(driver.maintain_history())


def raise_input_output_error(_: Path) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_scan_that_failed_is_repeated_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = opened(tmp_path)
    record_path(tmp_path).write_bytes(b"1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", raise_input_output_error)
        with pytest.raises(StoreUnavailableError):
            list(driver.maintain_history())
    later = time.monotonic() + 10
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert list(driver.maintain_history())


def test_background_removes_versions_when_the_writes_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path, Retention(versions=2))
    list(driver.maintain_history())
    for number in range(4):
        put(driver, NAME, b"%d" % number, if_etag=None)
    assert not list(driver.maintain_history())
    later = time.monotonic() + 5
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert list(driver.maintain_history()) == [2]
    assert not list(driver.maintain_history())


def test_burst_of_writes_cannot_outrun_the_background(tmp_path: Path) -> None:
    driver = opened(tmp_path, Retention(versions=2))
    for number in range(20):
        put(driver, NAME, b"%d" % number, if_etag=None)
    assert len(list(history_path(tmp_path).iterdir())) <= 4


def test_links_are_made_before_the_record_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    seen: list[int] = []
    rename = os.rename

    def note(source: str, target: Path) -> None:
        seen.append(len(list(history_path(tmp_path).iterdir())))
        rename(source, target)

    monkeypatch.setattr(os, "rename", note)
    put(driver, NAME, b"2", if_etag=None)
    assert seen == [2]


def test_import_without_a_history_is_refused(tmp_path: Path) -> None:
    refuses_without_a_history(lambda retention: opened(tmp_path, retention))


def test_import_keeps_a_record_that_another_program_wrote_as_the_newest_version(
    tmp_path: Path,
) -> None:
    driver = opened(tmp_path)
    record_path(tmp_path).write_bytes(b"foreign")
    driver.import_versions(NAME, [CREATED])
    assert events_of(driver) == ["found", "created"]


@pytest.mark.parametrize("retention", [Retention(), OPTIONAL])
def test_import_that_cannot_be_written_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retention: Retention
) -> None:
    driver = opened(tmp_path, retention)
    create(driver, NAME, b"1")
    fail_links(monkeypatch, errno.ENOSPC)
    with pytest.raises(StoreMisconfiguredError, match=os.strerror(errno.ENOSPC)):
        driver.import_versions(NAME, [CREATED])


def test_no_byte_of_a_destroyed_import_remains(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    driver.import_versions(NAME, [past(1, b"secret 1"), past(2, b"secret 2")])
    driver.destroy(NAME, if_etag=None, digest=str)
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [content for content in contents if b"secret" in content]


def test_own_change_is_noticed_without_a_look_at_its_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    monkeypatch.setattr(driver._history, "is_settled", Mock(side_effect=AssertionError))
    assert not driver.notice_change(NAME)


def test_push_over_an_own_write_does_not_look_at_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", Mock(side_effect=AssertionError))
        put(driver, NAME, b"2", if_etag=None)
        put(driver, NAME, b"3", if_etag=None)
    assert events_of(driver) == ["pushed", "pushed", "created"]


@pytest.mark.parametrize("record", [b"1", b"foreign"])
def test_push_over_a_foreign_write_after_an_own_one_keeps_both(
    tmp_path: Path, record: bytes
) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    foreign_write(tmp_path, record)
    put(driver, NAME, b"2", if_etag=None)
    assert events_of(driver) == ["pushed", "found", "created"]


def test_push_over_a_record_overwritten_in_place_keeps_what_was_there(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    overwrite_in_place(tmp_path, b"0")
    put(driver, NAME, b"2", if_etag=None)
    assert events_of(driver) == ["pushed", "found"]


def test_push_after_another_daemon_s_writes_keeps_the_order_of_a_clock_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, other = opened(tmp_path), opened(tmp_path)
    create(driver, NAME, b"1")
    put(other, NAME, b"2", if_etag=None)
    put(other, NAME, b"1", if_etag=None)
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    put(driver, NAME, b"3", if_etag=None)
    records = [driver.get_version(NAME, version.id).record for version in versions_of(driver)]
    assert records == [b"3", b"1", b"2", b"1"]


def test_remembered_versions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest_versions, "_MAX_VERSIONS", 3)
    driver = opened(tmp_path)
    for number in range(10):
        create(driver, IndexName(f"i{number}"), b"1")
    assert len(driver._history._newest._versions) == 3


@pytest.mark.parametrize("write", REPEATS)
def test_no_other_write_comes_between_the_version_and_its_restoration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    driver, other = opened(tmp_path), opened(tmp_path)
    create(driver, NAME, b"1")
    (created,) = versions_of(driver)
    delete(driver, NAME, if_etag=None)
    monkeypatch.setattr(write_locks, "_LOCK_TIMEOUT", 0)

    def interfere(_id: str, _stored: StoredRecord) -> None:
        with pytest.raises(StoreTimeoutError):
            other.destroy(NAME, if_etag=None, digest=str)

    REPEATS[write](driver, created.id, interfere)
    assert driver.get(NAME).record == b"1"


def foreign_write_in_place(root: Path, record: bytes) -> None:
    record_path(root).write_bytes(record)


def foreign_write_during_the_sync(
    root: Path, write: Callable[[Path, bytes], None], *, if_etag: str | None
) -> Callable[[], object]:
    """Begins a push, writes the record while the push waits for its file, and returns the rest of
    the push.
    """
    push = RunningWrite(opened(root).put(NAME, b"3", **PUSH, if_etag=if_etag))
    push.advance()
    assert push.pause is not None
    write(root, b"2")

    def end() -> object:
        while push.pause is not None:
            push.pause.wait()
            push.advance()
        return push.outcome()

    return end


@pytest.mark.parametrize("write", [foreign_write, foreign_write_in_place])
def test_conditional_push_is_refused_if_the_record_changes_while_its_file_is_synced(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    before = put(opened(tmp_path), NAME, b"1", if_etag=None)
    end = foreign_write_during_the_sync(tmp_path, write, if_etag=before.etag)
    with pytest.raises(EtagMismatchError):
        end()
    assert record_path(tmp_path).read_bytes() == b"2"


@pytest.mark.parametrize("write", [foreign_write, foreign_write_in_place])
@pytest.mark.parametrize("existed", [True, False])
def test_push_keeps_a_record_that_is_written_while_its_file_is_synced(
    tmp_path: Path, write: Callable[[Path, bytes], None], *, existed: bool
) -> None:
    if existed:
        put(opened(tmp_path), NAME, b"1", if_etag=None)
    result = foreign_write_during_the_sync(tmp_path, write, if_etag=None)()
    assert result == WriteResult(etag_of(b"3"), etag_of(b"2"))
    driver = opened(tmp_path)
    newest, found = versions_of(driver)[:2]
    assert (newest.event, found.event) == (VersionEvent.PUSHED, VersionEvent.FOUND)
    assert driver.get_version(NAME, found.id).record == b"2"


def test_foreign_change_right_after_an_own_one_is_kept(tmp_path: Path) -> None:
    driver = opened(tmp_path)
    create(driver, NAME, b"1")
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"1")
    foreign.rename(record_path(tmp_path))
    driver.notice_change(NAME)
    assert events_of(driver) == ["found", "created"]
