"""Writes that run together in one thread."""

import asyncio
import errno
import fcntl
import inspect
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from kekd_schema import Envelope
from kekd_server.model.errors import (
    EnvelopeExistsError,
    EtagMismatchError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import write_locks
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.fair_executor import FairExecutor
from kekd_server.storage.location import DiskLocation
from kekd_server.storage.store import Store
from kekd_server.storage.writes import groups as write_groups
from kekd_server.storage.writes.groups import WriteGroups
from kekd_server.storage.writes.push import Push
from kekd_server.storage.writes.steps import RunningWrite, Steps, run_together
from tests.fixtures.disk import complete_together, no_help, opened
from tests.fixtures.writes import CREATED, create
from tests.patience import PATIENCE
from tests.unit.waiting import reached

NAMES = [IndexName(f"i{number}") for number in range(3)]
ENVELOPE = Envelope(provider="none", version=1)


@pytest.fixture
def driver(tmp_path: Path) -> DiskDriver:
    return opened(tmp_path)


@pytest.fixture
async def store(driver: DiskDriver, tmp_path: Path) -> AsyncIterator[Store]:
    location = DiskLocation(str(tmp_path))
    store = Store(location, driver, threads=16, write_concurrency=2, write_group=8)
    yield store
    store.close()


def creates(driver: DiskDriver, names: Sequence[IndexName] = NAMES) -> list[Steps[object]]:
    return [result_of(driver.create(*(name, b"new"), **ALONE)) for name in names]


ALONE: Any = {"origin": CREATED, "attempt": None}


def result_of(steps: Steps[str]) -> Steps[object]:
    try:
        return (yield from steps)
    except Exception as error:  # noqa: BLE001  (returned to the test)
        return error


def is_stored(driver: DiskDriver, name: IndexName) -> bool:
    return (driver.records_folder / name.key).exists()


class Calls(list[str]):
    """The system calls that put a record on disk."""

    def record(self, monkeypatch: pytest.MonkeyPatch, driver: DiskDriver) -> None:
        files: dict[int, str] = {}
        for name in ("open", "posix_fadvise", "fsync", "link", "close"):
            monkeypatch.setattr(os, name, self._traced(name, getattr(os, name), driver, files))

    def _traced(self, name: str, call: Any, driver: DiskDriver, files: dict[int, str]) -> Any:
        def traced(*arguments: Any, **keywords: Any) -> Any:
            result = call(*arguments, **keywords)
            if name == "open":
                is_folder = str(arguments[0]) == str(driver.records_folder)
                is_new = bool(arguments[1] & os.O_TMPFILE == os.O_TMPFILE)
                files[result] = "folder" if is_folder else "file" if is_new else ""
            elif name == "link":
                self.extend(["link record"] * (str(driver.records_folder) in arguments[1]))
            elif file := files.get(arguments[0]):
                self.append(f"{name} {file}")
            return result

        return traced


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, driver: DiskDriver) -> Calls:
    calls = Calls()
    calls.record(monkeypatch, driver)
    return calls


def test_writes_that_run_together_share_the_fsync_of_the_folder_after_their_links(
    driver: DiskDriver, calls: Calls
) -> None:
    complete_together(creates(driver))
    assert calls == [
        *["posix_fadvise file"] * 3,
        *["fsync file"] * 3,
        *["link record", "close file"] * 3,
        *["fsync folder", "close folder"],
    ]


def test_failed_fsync_of_the_folder_fails_every_write_that_shares_it(
    driver: DiskDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_sync, files = os.fsync, len(NAMES)

    def fail_for_the_folder(file: int) -> None:
        nonlocal files
        if not files:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        files -= 1
        really_sync(file)

    monkeypatch.setattr(os, "fsync", fail_for_the_folder)
    results = complete_together(creates(driver))
    assert [type(result) for result in results] == [StoreUnavailableError] * 3
    assert len({id(result) for result in results}) == 3


def test_failed_fsync_of_a_file_fails_its_write_alone(
    driver: DiskDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_sync, synced = os.fsync, 0

    def fail_once(file: int) -> None:
        nonlocal synced
        synced += 1
        if synced == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really_sync(file)

    monkeypatch.setattr(os, "fsync", fail_once)
    first, second, third = complete_together(creates(driver))
    assert isinstance(second, StoreUnavailableError)
    assert isinstance(first, str)
    assert isinstance(third, str)
    assert [is_stored(driver, name) for name in NAMES] == [True, False, True]


def test_conflict_of_one_write_leaves_the_others(driver: DiskDriver) -> None:
    create(driver, NAMES[1], b"old")
    results = complete_together(creates(driver))
    assert [type(result) for result in results] == [str, EnvelopeExistsError, str]


def test_writes_with_one_lock_run_one_after_the_other(
    driver: DiskDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_locks, "_LOCKS", 1)
    monkeypatch.setattr(write_locks, "_LOCK_TIMEOUT", PATIENCE)
    results = complete_together(creates(driver))
    assert [type(result) for result in results] == [str] * 3


def test_writes_with_one_lock_need_no_other_thread(
    driver: DiskDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_locks, "_LOCKS", 1)
    first, second, third = writes = [RunningWrite(steps) for steps in creates(driver)]
    run_together(writes, no_help)
    assert [write for write in writes if write.pause is not None] == [third]
    assert [type(write.outcome()) for write in (first, second)] == [str, str]
    third.finish()
    assert isinstance(third.outcome(), str)


def test_write_that_waits_for_another_daemon_does_not_delay_the_others(
    driver: DiskDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_locks, "_LOCK_TIMEOUT", 0)
    held = opened(tmp_path)
    with held._locks.hold(NAMES[0]):
        first, *others = complete_together(creates(driver))
    assert isinstance(first, StoreTimeoutError)
    assert [type(result) for result in others] == [str, str]
    assert create(driver, NAMES[0], b"new")


def test_lock_is_free_while_its_write_waits_for_another_daemon(
    driver: DiskDriver, tmp_path: Path
) -> None:
    steps = driver.create(NAMES[0], b"new", **ALONE)
    with opened(tmp_path)._locks.hold(NAMES[0]):
        next(steps)
    with (tmp_path / "_kekd" / "locks").joinpath(lock_of(tmp_path)).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not any(queue.locked() for queue in driver._locks._queues)
    steps.close()


def lock_of(root: Path) -> str:
    (lock,) = (root / "_kekd" / "locks").iterdir()
    return lock.name


async def test_creates_that_arrive_together_share_a_thread(store: Store, calls: Calls) -> None:
    names = [IndexName(f"i{number}") for number in range(8)]
    await asyncio.gather(*(store.create(name, ENVELOPE, owner="o") for name in names))
    assert calls.count("fsync folder") == 1
    assert calls.count("fsync file") == 8


async def test_deletes_and_undeletes_that_arrive_together_share_the_fsync_of_the_folder(
    store: Store, calls: Calls
) -> None:
    await asyncio.gather(*(store.create(name, ENVELOPE) for name in NAMES))
    await asyncio.gather(*(store.delete(name, if_etag=None) for name in NAMES))
    assert calls.count("fsync folder") == 2
    await asyncio.gather(*(store.versions.undelete(name) for name in NAMES))
    assert calls.count("fsync folder") == 3


async def test_creates_during_the_groups_become_the_next_one(
    store: Store, driver: DiskDriver, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_groups, "_MAX_GROUPS", 1)
    go_on, began = hang(monkeypatch)
    first = asyncio.create_task(store.create(NAMES[0], ENVELOPE))
    await reached(began.is_set)
    others = []
    for name in NAMES[1:]:
        others.append(asyncio.create_task(store.create(name, ENVELOPE)))
        await callbacks_ran()
    go_on.set()
    await asyncio.gather(first, *others)
    assert all(is_stored(driver, name) for name in NAMES)
    assert calls.count("fsync folder") == 2
    assert not store._calls._groups._owners  # type: ignore[union-attr]


async def test_create_during_a_small_group_starts_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, began = hang(monkeypatch)
    few = [asyncio.create_task(store.create(name, ENVELOPE)) for name in NAMES]
    await reached(began.is_set)
    another = asyncio.create_task(store.create(IndexName("another"), ENVELOPE))
    await reached(lambda: groups_of(store).running == 2)
    go_on.set()
    await asyncio.gather(another, *few)


async def test_creates_during_a_large_group_wait_until_they_are_a_full_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, began = hang(monkeypatch)
    names = [IndexName(f"i{number}") for number in range(12)]
    creates = [asyncio.create_task(store.create(name, ENVELOPE)) for name in names[:4]]
    await reached(began.is_set)
    creates += [asyncio.create_task(store.create(name, ENVELOPE)) for name in names[4:11]]
    await callbacks_ran()
    assert groups_of(store).running == 1
    creates.append(asyncio.create_task(store.create(names[11], ENVELOPE)))
    await reached(lambda: groups_of(store).running == 2)
    go_on.set()
    await asyncio.gather(*creates)


async def test_large_parts_of_a_batch_run_one_after_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, began = hang(monkeypatch)
    pushes = [Push(IndexName(f"i{number}"), ENVELOPE, None) for number in range(10)]
    batch = asyncio.create_task(store.put_many(pushes))
    await reached(began.is_set)
    await callbacks_ran()
    assert groups_of(store).running == 1
    assert len(groups_of(store).waiting) == 1
    go_on.set()
    assert all(isinstance(result, WriteResult) for result in await batch)


def groups_of(store: Store) -> Any:
    return store._calls._groups._owners[""]  # type: ignore[union-attr]


async def callbacks_ran() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_write_that_is_cancelled_before_it_starts_does_not_run(
    store: Store, driver: DiskDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_groups, "_MAX_GROUPS", 1)
    go_on, began = hang(monkeypatch)
    first = asyncio.create_task(store.create(NAMES[0], ENVELOPE))
    await reached(began.is_set)
    second = asyncio.create_task(store.create(NAMES[1], ENVELOPE))
    await reached(lambda: bool(store._calls._groups._owners[""].waiting))  # type: ignore[union-attr]
    second.cancel()
    first.cancel()
    go_on.set()
    await store.create(NAMES[2], ENVELOPE)
    assert [is_stored(driver, name) for name in NAMES] == [True, False, True]


def hang(monkeypatch: pytest.MonkeyPatch) -> tuple[Event, Event]:
    """Makes the next fsync wait for the first event, after setting the second."""
    go_on, began, really_sync = Event(), Event(), os.fsync

    def sync_late(file: int) -> None:
        began.set()
        assert go_on.wait(PATIENCE)
        really_sync(file)

    monkeypatch.setattr(os, "fsync", sync_late)
    return go_on, began


async def test_contended_create_ends_after_the_others(
    store: Store, driver: DiskDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_locks, "_LOCK_TIMEOUT", PATIENCE)
    with opened(tmp_path)._locks.hold(NAMES[0]):
        contended = asyncio.create_task(store.create(NAMES[0], ENVELOPE))
        await asyncio.gather(*(store.create(name, ENVELOPE) for name in NAMES[1:]))
        assert not contended.done()
    assert await contended
    assert is_stored(driver, NAMES[0])


async def test_pushes_of_one_name_in_a_group_keep_their_order(store: Store) -> None:
    first = await store.put(NAMES[0], ENVELOPE, if_etag=None)
    pushes = [
        Push(NAMES[0], Envelope(provider="none", version=2), first.etag),
        Push(NAMES[0], Envelope(provider="none", version=3), first.etag),
        Push(NAMES[1], ENVELOPE, None),
    ]
    results = await store.put_many(pushes)
    assert [type(result) for result in results] == [WriteResult, EtagMismatchError, WriteResult]
    assert (await store.get(NAMES[0])).envelope.version == 2


async def test_batch_waits_for_its_turn_among_the_groups(
    store: Store, driver: DiskDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_groups, "_MAX_GROUPS", 1)
    go_on, began = hang(monkeypatch)
    first = asyncio.create_task(store.create(NAMES[0], ENVELOPE))
    await reached(began.is_set)
    cancelled, batch = (
        asyncio.create_task(store.put_many([Push(name, ENVELOPE, None)])) for name in NAMES[1:]
    )
    await reached(lambda: len(store._calls._groups._owners[""].waiting) == 2)  # type: ignore[union-attr]
    last = asyncio.create_task(store.create(IndexName("last"), ENVELOPE))
    cancelled.cancel()
    go_on.set()
    await asyncio.gather(first, batch, last)
    assert [is_stored(driver, name) for name in NAMES] == [True, False, True]
    assert not store._calls._groups._owners  # type: ignore[union-attr]


async def test_cancelled_batch_keeps_its_turn_until_its_writes_end(
    store: Store, driver: DiskDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_groups, "_MAX_GROUPS", 1)
    go_on, began = hang(monkeypatch)
    batch = asyncio.create_task(store.put_many([Push(NAMES[0], ENVELOPE, None)]))
    await reached(began.is_set)
    batch.cancel()
    await asyncio.gather(batch, return_exceptions=True)
    create = asyncio.create_task(store.create(NAMES[1], ENVELOPE))
    await callbacks_ran()
    assert len(groups_of(store).waiting) == 1
    go_on.set()
    await create
    assert is_stored(driver, NAMES[0])
    assert not store._calls._groups._owners  # type: ignore[union-attr]


async def test_contended_entry_of_a_batch_gives_its_turn_to_others(
    store: Store, driver: DiskDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_groups, "_MAX_GROUPS", 1)
    monkeypatch.setattr(write_locks, "_LOCK_TIMEOUT", PATIENCE)
    acquire, waits = write_locks._acquire, Event()

    def acquire_late(*arguments: Any) -> None:
        waits.set()
        acquire(*arguments)

    monkeypatch.setattr(write_locks, "_acquire", acquire_late)
    with opened(tmp_path)._locks.hold(NAMES[0]):
        batch = asyncio.create_task(store.put_many([Push(NAMES[0], ENVELOPE, None)] * 2))
        await reached(waits.is_set)
        for name in NAMES[1:]:
            await store.create(name, ENVELOPE)
        assert not batch.done()
    assert [type(result) for result in await batch] == [WriteResult] * 2


async def test_unexpected_error_of_a_sync_fails_its_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise ValueError("unexpected")

    monkeypatch.setattr(os, "fsync", fail)
    creates = [store.create(name, ENVELOPE) for name in NAMES]
    outcomes = await asyncio.gather(*creates, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 3


async def test_write_that_is_cancelled_at_the_end_of_a_group_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, failure: failures.append(failure))
    end: Future[object] = Future()
    threads = FairExecutor(1, name="test")
    monkeypatch.setattr(threads, "submit", lambda *_: end)
    groups = WriteGroups(threads, 8)
    first = asyncio.create_task(groups.run([RunningWrite(ended())], "o"))
    await callbacks_ran()
    second = asyncio.create_task(groups.run([RunningWrite(ended())], "o"))
    loop.call_soon(second.cancel)
    end.set_result(None)
    await asyncio.gather(first, second, return_exceptions=True)
    await callbacks_ran()
    assert second.cancelled()
    assert not groups._owners
    assert not failures
    threads.shutdown()


async def test_first_group_and_those_after_a_slow_one_are_small(
    monkeypatch: pytest.MonkeyPatch, group_sizes: list[int]
) -> None:
    threads = FairExecutor(1, name="t")
    groups = WriteGroups(threads, 32)

    async def run_writes(slow_seconds: float) -> list[int]:
        monkeypatch.setattr(write_groups, "_SLOW_SECONDS", slow_seconds)
        group_sizes.clear()
        await asyncio.gather(*(groups.run([RunningWrite(ended())], "o") for _ in range(24)))
        return group_sizes

    assert (await run_writes(slow_seconds=PATIENCE))[0] == 8
    assert await run_writes(slow_seconds=-1) == [24]
    assert await run_writes(slow_seconds=-1) == [8, 8, 8]
    assert (await run_writes(slow_seconds=PATIENCE))[0] == 8
    assert await run_writes(slow_seconds=PATIENCE) == [24]
    threads.shutdown()


def test_write_that_has_ended_keeps_its_outcome() -> None:
    write = RunningWrite(ended())
    write.finish()
    write.fail(asyncio.CancelledError())
    assert write.outcome() is None


async def test_write_that_is_cancelled_while_it_waits_for_a_thread_does_not_run() -> None:
    threads, go_on = FairExecutor(1, name="test"), Event()
    blocking = threads.submit("other", lambda: go_on.wait(PATIENCE))
    groups, steps = WriteGroups(threads, 8), ended()
    write = asyncio.create_task(groups.run([RunningWrite(steps)], "o"))
    await reached(lambda: bool(threads._waiting))
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    go_on.set()
    await asyncio.wrap_future(blocking)
    await reached(lambda: not groups._owners)
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CREATED
    threads.shutdown()


def ended() -> Steps[None]:
    yield from ()


async def test_store_that_closes_cancels_the_creates_that_wait_for_a_thread(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, began = hang(monkeypatch)
    threads = store._calls.threads
    running = [asyncio.create_task(store.create(name, ENVELOPE)) for name in NAMES[:1]]
    await reached(began.is_set)
    blocking = [threads.submit("", go_on.wait) for _ in range(threads.share - 1)]
    waiting = asyncio.create_task(store.create(NAMES[1], ENVELOPE))
    await reached(lambda: bool(threads._waiting))
    store.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    await asyncio.gather(*running, *map(asyncio.wrap_future, blocking))


async def test_closed_store_refuses_a_create(store: Store) -> None:
    store.close()
    with pytest.raises(RuntimeError, match="shut down"):
        await store.create(NAMES[0], ENVELOPE)
