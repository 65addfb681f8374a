"""A store on a disk that hangs: only reads from the disk wait."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from kekd_schema import Envelope
from kekd_server.model.errors import WatchFellBehindError
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.history import keeper as history_keeper
from kekd_server.storage.location import DiskLocation
from kekd_server.storage.store import Store
from kekd_server.storage.stored_envelope import PreparedEnvelope
from tests.fixtures.disk import opened
from tests.patience import PATIENCE
from tests.unit.waiting import reached

READ_BEFORE, NEVER_READ = IndexName("read-before"), IndexName("never-read")
LONG_AGO = 1_000_000_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(DiskLocation(str(tmp_path)), opened(tmp_path), threads=2)
    for name in (READ_BEFORE, NEVER_READ):
        await store.create(name, Envelope(provider="none"))
    yield store
    store.close()


class HangingDisk(threading.Event):
    opens = 0


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    """No file is in the kernel's memory, and opening any file waits until this is set."""
    over, really_open = HangingDisk(), os.open
    monkeypatch.setattr("kekd_server.storage.disk.record_cache.open_if_cached", lambda _: None)

    def wait_and_open(*arguments: Any, **keywords: Any) -> int:
        over.opens += 1
        assert over.wait(PATIENCE)
        return really_open(*arguments, **keywords)

    monkeypatch.setattr(os, "open", wait_and_open)
    yield over
    over.set()


@pytest.fixture
async def read_before(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Recently changed files aren't cached.
    monkeypatch.setattr("kekd_server.storage.disk.timestamps._RACY_NS", -LONG_AGO)
    await store.get(READ_BEFORE)


@pytest.mark.usefixtures("read_before")
async def test_disk_that_hangs_blocks_only_uncached_reads(
    store: Store, hanging: HangingDisk
) -> None:
    waiting = asyncio.create_task(store.get(NEVER_READ))
    for _ in range(100):
        assert (await store.get(READ_BEFORE)).envelope.provider == "none"
    await reached(lambda: hanging.opens == 1)
    assert not waiting.done()
    hanging.set()
    assert (await waiting).envelope.provider == "none"


@pytest.mark.usefixtures("read_before")
async def test_full_scan_evicts_nothing_from_the_cache(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = cast("DiskDriver", store._driver).cache._cached
    monkeypatch.setattr(cached, "_max_bytes", cached.size)
    await store.get_many([READ_BEFORE, NEVER_READ])
    monkeypatch.setattr("kekd_server.storage.disk.record_cache.open_if_cached", lambda _: None)
    monkeypatch.setattr(os, "open", None)
    await store.get(READ_BEFORE)
    with pytest.raises(TypeError):
        await store.get(NEVER_READ)


@pytest.mark.parametrize("show_deleted", [False, True])
async def test_history_that_hangs_blocks_no_listing_and_no_write(
    store: Store, monkeypatch: pytest.MonkeyPatch, show_deleted: bool
) -> None:
    over, begun = threading.Event(), threading.Event()

    def hang() -> Iterator[int]:
        begun.set()
        assert over.wait(PATIENCE)
        yield 0

    monkeypatch.setattr(history_keeper, "_MAINTENANCE_INTERVAL", 0)
    monkeypatch.setattr(store._driver, "maintain_history", hang)
    keeping = asyncio.create_task(store.keep_history())
    await reached(begun.is_set)
    for name in map(IndexName, ("i", "j", "k")):
        await store.create(name, Envelope(provider="none"))
    names = await store.list(
        *(NamePrefix(""), None, 10), listing="", show_deleted=show_deleted, owner=""
    )
    assert len(names) == 5
    assert not keeping.done()
    over.set()
    keeping.cancel()


@pytest.mark.usefixtures("read_before")
async def test_full_scan_fills_the_room_in_the_cache(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.get_many([READ_BEFORE, NEVER_READ])
    monkeypatch.setattr("kekd_server.storage.disk.record_cache.open_if_cached", lambda _: None)
    monkeypatch.setattr(os, "open", None)
    await store.get(NEVER_READ)


async def test_failed_watch_counts_as_dropped_and_an_ended_one_does_not(store: Store) -> None:
    for failure in (WatchFellBehindError, None):
        with suppress(WatchFellBehindError):
            async with store.watch(NamePrefix("")):
                assert store.subscribers == 1
                if failure:
                    raise failure
    assert (store.subscribers, store.watches_dropped) == (0, 1)


async def test_other_calls_run_between_batches_of_prepared_entries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = PreparedEnvelope(b"", "", b"")
    monkeypatch.setattr(store._driver, "confirm_all", lambda *_: [True])
    turns = 0
    ends: list[int] = []

    async def read() -> None:
        await store.get_many([READ_BEFORE], find_prepared=lambda *_: [prepared])
        ends.append(turns)

    batches = asyncio.gather(*(read() for _ in range(5)))
    while not batches.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(set(ends)) == 5
