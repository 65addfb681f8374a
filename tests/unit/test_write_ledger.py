"""The ledger in a lock file remembers writes, and reports when it may be incomplete."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from kekd_server.model.errors import HistoryUnavailableError
from kekd_server.storage.disk import write_ledger
from kekd_server.storage.disk.write_ledger import MAX_ENTRIES, EntryStatus, WriteLedger
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.writes.attempt import RETENTION

KEY = "i.kms.cat"
ID = "0123456789abcdef" * 2
PUSHED = WriteResult("aa" * 16, "bb" * 16)
DELETED = WriteResult("", "cc" * 16)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    file = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield file
    os.close(file)


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
    """Simulates that the machine booted for the nth time, so many seconds ago."""

    def boot(number: int, seconds: float) -> None:
        monkeypatch.setattr(write_ledger, "_boot_id", lambda: number.to_bytes(16))
        monkeypatch.setattr(time, "monotonic", lambda: seconds)

    return boot


def apply(lock: int, attempt_id: str, written: WriteResult = PUSHED) -> None:
    with WriteLedger(lock, KEY).commit(attempt_id, written):
        pass


@pytest.mark.parametrize("written", [PUSHED, DELETED, WriteResult("dd" * 16, None)])
def test_applied_write_is_found_with_its_result(lock: int, written: WriteResult) -> None:
    apply(lock, "ff" * 16)
    apply(lock, ID, written)
    assert WriteLedger(lock, KEY).find(ID) == (EntryStatus.APPLIED, written, True)


def test_unknown_write_is_not_found(lock: int) -> None:
    apply(lock, "ff" * 16, WriteResult(ID, ID))  # only etags, no id
    assert WriteLedger(lock, KEY).find(ID) is None


def test_write_of_a_process_that_died_during_the_commit_is_started(lock: int) -> None:
    with pytest.raises(KeyboardInterrupt), WriteLedger(lock, KEY).commit(ID, PUSHED):
        raise KeyboardInterrupt
    assert WriteLedger(lock, KEY).find(ID) == (EntryStatus.STARTED, PUSHED, True)


def test_write_whose_system_call_failed_is_started(lock: int) -> None:
    with pytest.raises(OSError, match="5"), WriteLedger(lock, KEY).commit(ID, PUSHED):
        raise OSError(errno.EIO, "5")
    assert WriteLedger(lock, KEY).find(ID) == (EntryStatus.STARTED, PUSHED, True)


@pytest.mark.parametrize("error", [FileExistsError(), HistoryUnavailableError("i", "why")])
def test_write_that_changed_nothing_removes_the_entry(lock: int, error: Exception) -> None:
    with pytest.raises(type(error)), WriteLedger(lock, KEY).commit(ID, PUSHED):
        raise error
    assert WriteLedger(lock, KEY).find(ID) is None


def test_new_ledger_is_complete_unless_the_machine_booted_recently(
    lock: int, boot: Callable[[int, float], None]
) -> None:
    boot(1, RETENTION)
    assert WriteLedger(lock, KEY).is_complete
    boot(1, RETENTION - 1)
    assert not WriteLedger(lock, KEY).is_complete


def test_ledger_of_an_earlier_boot_is_empty_and_complete_since_this_boot(
    lock: int, boot: Callable[[int, float], None]
) -> None:
    boot(1, 1000)
    apply(lock, ID)
    boot(2, RETENTION - 1)
    assert WriteLedger(lock, KEY).find(ID) is None
    assert not WriteLedger(lock, KEY).is_complete
    boot(2, RETENTION)
    assert WriteLedger(lock, KEY).is_complete


def test_ledger_of_another_host_is_incomplete_for_the_retention(
    lock: int, boot: Callable[[int, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(1, 1000)
    apply(lock, ID)
    monkeypatch.setattr(write_ledger, "_host", lambda: bytes(16))
    boot(2, 2000)
    assert WriteLedger(lock, KEY).find(ID) is None
    assert not WriteLedger(lock, KEY).is_complete
    boot(2, 2000 + RETENTION)
    assert WriteLedger(lock, KEY).is_complete


def test_last_entry_of_a_write_is_found(lock: int) -> None:
    with pytest.raises(KeyboardInterrupt), WriteLedger(lock, KEY).commit(ID, DELETED):
        raise KeyboardInterrupt
    WriteLedger(lock, KEY).add(ID, EntryStatus.APPLIED, PUSHED)
    assert WriteLedger(lock, KEY).find(ID) == (EntryStatus.APPLIED, PUSHED, True)


def test_removal_on_a_full_disk_succeeds_without_an_entry(
    lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "pwrite", Mock(side_effect=full))
    apply(lock, ID, DELETED)
    WriteLedger(lock, KEY).add(ID, EntryStatus.APPLIED)
    with pytest.raises(OSError, match="No space"):
        apply(lock, ID, PUSHED)


def test_full_ledger_drops_its_older_half_and_is_incomplete_for_the_retention(
    lock: int, boot: Callable[[int, float], None]
) -> None:
    boot(1, 1000)
    for number in range(1, MAX_ENTRIES + 1):
        apply(lock, f"{number:032x}")
    assert WriteLedger(lock, KEY).is_complete
    apply(lock, ID)
    ledger = WriteLedger(lock, KEY)
    assert ledger.find(f"{1:032x}") is None
    assert ledger.find(f"{MAX_ENTRIES:032x}")
    assert ledger.find(ID)
    assert not ledger.is_complete
    assert os.fstat(lock).st_size <= (MAX_ENTRIES + 1) * 64
    boot(1, 1000 + RETENTION)
    assert WriteLedger(lock, KEY).is_complete


@pytest.mark.parametrize("length", [254, 255, 256, 257])
def test_entries_beyond_the_first_read_are_found(lock: int, length: int) -> None:
    for number in range(1, length + 1):
        apply(lock, f"{number:032x}")
    apply(lock, ID)
    ledger = WriteLedger(lock, KEY)
    assert all(ledger.find(f"{number:032x}") for number in range(1, length + 1))
    assert ledger.find(ID)


def test_ledger_on_a_full_disk_replaces_older_entries(
    lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 5):
        apply(lock, f"{number:032x}")
    size, really_write = os.fstat(lock).st_size, os.pwrite

    def write_in_place(file: int, data: bytes, at: int) -> int:
        if at + len(data) > size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really_write(file, data, at)

    monkeypatch.setattr(os, "pwrite", write_in_place)
    apply(lock, ID)
    assert WriteLedger(lock, KEY).find(ID)


def test_torn_tail_is_overwritten(lock: int) -> None:
    apply(lock, "ff" * 16)
    os.pwrite(lock, b"torn", os.fstat(lock).st_size)
    apply(lock, ID)
    assert WriteLedger(lock, KEY).find(ID) == (EntryStatus.APPLIED, PUSHED, True)


def test_entry_is_the_last_until_the_same_record_is_written(lock: int) -> None:
    apply(lock, ID)
    with WriteLedger(lock, "another").commit("ee" * 16, PUSHED):
        pass
    entry = WriteLedger(lock, KEY).find(ID)
    assert entry
    assert entry.is_last
    apply(lock, "ff" * 16)
    entry = WriteLedger(lock, KEY).find(ID)
    assert entry
    assert not entry.is_last


def test_last_applied_write_is_that_of_the_same_record(lock: int) -> None:
    assert not WriteLedger(lock, KEY).last_applied
    apply(lock, "ff" * 16)
    apply(lock, ID)
    with WriteLedger(lock, "another").commit("ee" * 16, PUSHED):
        pass
    assert WriteLedger(lock, KEY).last_applied == ID


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, FileExistsError, HistoryUnavailableError("i", "why")]
)
def test_write_that_was_not_applied_is_not_the_last_applied_one(
    lock: int, error: BaseException
) -> None:
    apply(lock, ID)
    with pytest.raises(BaseException), WriteLedger(lock, KEY).commit("ff" * 16, PUSHED):  # noqa: B017, PT011
        raise error
    assert not WriteLedger(lock, KEY).last_applied
