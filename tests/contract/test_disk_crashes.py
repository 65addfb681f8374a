"""A daemon that is killed at any system call of a write leaves the record and its history whole."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.history.retention import Retention
from tests.contract.driver_contract import NAME
from tests.contract.history_contract import accept, events_of, maintain, versions_of
from tests.contract.import_contract import deletion, past
from tests.fixtures.disk import complete_together, opened
from tests.fixtures.writes import CREATED, create, delete, put, restore

KILLED: Final = 9
RETENTION: Final = Retention(versions=2)
SYSTEM_CALLS: Final = (
    *("open", "write", "pwrite", "fsync", "link", "rename", "unlink", "mkdir", "rmdir"),
)
OLD, NEW = b"the old record", b"the new record"


class Operation(NamedTuple):
    before: tuple[bytes, ...]
    """The records that were pushed before."""
    run: Callable[[DiskDriver], object]
    after: bytes | None
    """The record that it leaves."""


def restore_oldest(driver: DiskDriver) -> None:
    oldest = versions_of(driver)[-1]
    restore(driver, NAME, oldest.id, validate=accept, if_etag=None)


def prune(driver: DiskDriver) -> None:
    assert maintain(driver)


def create_together(driver: DiskDriver) -> None:
    names = [IndexName("first"), NAME, IndexName("last")]
    complete_together(driver.create(name, NEW, origin=CREATED, attempt=None) for name in names)


def delete_together(driver: DiskDriver) -> None:
    complete_together(
        driver.delete(name, if_etag=None, caller="", attempt=None)
        for name in (NAME, IndexName("other"))
    )


OPERATIONS: Final = {
    "deletes that run together": Operation((OLD,), delete_together, None),
    "creates that run together": Operation((), create_together, NEW),
    "create": Operation((), lambda driver: create(driver, NAME, NEW), NEW),
    "push": Operation((OLD,), lambda driver: put(driver, NAME, NEW, if_etag=None), NEW),
    "restore": Operation((NEW, OLD), restore_oldest, NEW),
    "delete": Operation((OLD,), lambda driver: delete(driver, NAME, if_etag=None), None),
    "destroy": Operation(
        (OLD, NEW), lambda driver: driver.destroy(NAME, if_etag=None, digest=str), None
    ),
    "import": Operation(
        (OLD,), lambda driver: driver.import_versions(NAME, [past(1, OLD), past(2, NEW)]), OLD
    ),
    "prune": Operation((b"1", b"2", b"3", OLD), prune, OLD),
}


def exit_before(number: int) -> None:
    """Makes this process end before its system call with that number."""
    remaining = [number]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            if not remaining[0]:
                os._exit(KILLED)
            remaining[0] -= 1
            return call(*arguments, **options)

        return count

    for name in SYSTEM_CALLS:
        setattr(os, name, counted(getattr(os, name)))


def run_until(number: int, root: Path, operation: Operation) -> bool:
    """Runs an operation in a child, which is killed before a system call. Returns whether it was
    killed.
    """
    child = os.fork()
    if not child:
        driver = DiskDriver(root, RETENTION)
        exit_before(number)
        try:
            operation.run(driver)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED)
    return status == KILLED


def record_of(root: Path) -> bytes | None:
    path = root / "_catalog/config" / NAME.key
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("name", OPERATIONS)
def test_process_killed_at_any_system_call_leaves_old_or_new_and_whole_versions(
    tmp_path: Path, name: str
) -> None:
    operation, number, is_killed = OPERATIONS[name], 0, True
    while is_killed:
        root = tmp_path / str(number)
        driver = opened(root, RETENTION)
        for record in operation.before:
            put(driver, NAME, record, if_etag=None)
        before = record_of(root)
        is_killed = run_until(number, root, operation)
        number += 1
        driver = opened(root, RETENTION)
        assert record_of(root) in (before, operation.after)
        for version in versions_of(driver):
            if not version.is_deletion:
                stored = driver.get_version(NAME, version.id)
                assert stored.record in (*operation.before, NEW)
        if (current := record_of(root)) is not None:
            assert driver.get_version(NAME, versions_of(driver)[0].id).record == current
        put(driver, NAME, b"next", if_etag=None)
        assert driver.get_version(NAME, versions_of(driver)[0].id).record == b"next"
    assert number > 3


def test_destroy_after_a_killed_one_leaves_no_byte_of_a_record(tmp_path: Path) -> None:
    number, is_killed = 0, True
    while is_killed:
        root = tmp_path / str(number)
        driver = opened(root, RETENTION)
        for record in (OLD, NEW):
            put(driver, NAME, record, if_etag=None)
        is_killed = run_until(number, root, OPERATIONS["destroy"])
        number += 1
        opened(root, RETENTION).destroy(NAME, if_etag=None, digest=str)
        contents = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
        assert not [found for found in contents if b"record" in found]
    assert number > 3


def test_killed_push_leaves_no_version_that_was_never_stored(tmp_path: Path) -> None:
    number, is_killed = 0, True
    while is_killed:
        root = tmp_path / str(number)
        driver = opened(root, RETENTION)
        for record in (b"1", OLD):
            put(driver, NAME, record, if_etag=None)
        is_killed = run_until(number, root, OPERATIONS["push"])
        number += 1
        versions = versions_of(opened(root, RETENTION))
        records = [driver.get_version(NAME, version.id).record for version in versions]
        assert records[0] == record_of(root)
        assert (NEW in records) == (record_of(root) == NEW)


def test_receipt_of_a_destroy_has_what_a_killed_one_removed(tmp_path: Path) -> None:
    number, is_killed = 0, True
    while is_killed:
        root = tmp_path / str(number)
        driver = opened(root, Retention())
        for record in (OLD, NEW):
            put(driver, NAME, record, if_etag=None)
        expected = [(version.id, version.etag) for version in versions_of(driver)]
        is_killed = run_until(number, root, OPERATIONS["destroy"])
        number += 1
        was_complete = not (history_of(root) or record_of(root) or marks_of(root))
        receipt = opened(root, Retention()).destroy(NAME, if_etag=None, digest=str)
        removed = [(version.id, version.etag) for version in receipt.destroyed]
        assert removed == ([] if was_complete else expected)
        assert not marks_of(root)
    assert number > 3


def history_of(root: Path) -> list[Path]:
    return list((root / "_kekd/history").rglob("*"))


def marks_of(root: Path) -> list[Path]:
    return list((root / "_kekd/destructions").iterdir())


@pytest.mark.parametrize("name", ["push", "delete"])
def test_write_after_another_daemon_was_killed_keeps_only_what_was_stored(
    tmp_path: Path, name: str
) -> None:
    number, is_killed = 0, True
    while is_killed:
        root = tmp_path / str(number)
        driver = opened(root, Retention())
        put(driver, NAME, OLD, if_etag=None)  # the driver remembers its version
        is_killed = run_until(number, root, OPERATIONS[name])
        number += 1
        stored = [OLD] if record_of(root) == OLD else [OLD, OPERATIONS[name].after]
        put(driver, NAME, b"next", if_etag=None)
        assert [
            None if version.is_deletion else driver.get_version(NAME, version.id).record
            for version in reversed(versions_of(driver))
        ] == [*stored, b"next"]
    assert number > 3


def test_repeated_import_after_a_killed_one_adds_the_rest(tmp_path: Path) -> None:
    imported = [past(1, b"1"), deletion(2), past(3, b"3")]
    operation = Operation((OLD,), lambda driver: driver.import_versions(NAME, imported), OLD)
    number, is_killed = 0, True
    while is_killed:
        root = tmp_path / str(number)
        driver = opened(root, Retention())
        put(driver, NAME, OLD, if_etag=None)
        is_killed = run_until(number, root, operation)
        number += 1
        driver = opened(root, Retention())
        driver.import_versions(NAME, imported)
        assert events_of(driver) == ["pushed", "pushed", "deleted", "pushed"]
    assert number > 9
