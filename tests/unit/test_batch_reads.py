"""How many threads read the entries of a batch."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from kekd_server.storage.batch_reads import read_many
from tests.patience import PATIENCE

T = TypeVar("T")
READERS = 48


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(READERS) as threads:
        yield threads


async def test_batch_with_slow_reads_uses_all_its_threads(threads: ThreadPoolExecutor) -> None:
    all_readers = threading.Barrier(READERS)

    def read(key: int) -> int:
        all_readers.wait(PATIENCE)
        return -key

    async def run(call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    results = await read_many(range(READERS), read, run, concurrency=READERS)

    assert results == [-key for key in range(READERS)]


async def test_batch_with_fast_reads_uses_few_threads() -> None:
    running, most = 0, 0

    async def run(call: Callable[[], T]) -> T:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return call()

    results = await read_many(range(1000), str, run, concurrency=READERS)

    assert results == list(map(str, range(1000)))
    assert most == 4


async def test_batch_whose_caller_is_gone_starts_no_more_reads(threads: ThreadPoolExecutor) -> None:
    started, may_end = threading.Event(), threading.Event()
    keys: list[int] = []

    def read(key: int) -> int:
        keys.append(key)
        started.set()
        may_end.wait(PATIENCE)
        return key

    async def run(call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    batch = asyncio.create_task(read_many(range(10_000), read, run, concurrency=READERS))
    await asyncio.to_thread(started.wait, PATIENCE)
    batch.cancel()
    await asyncio.gather(batch, return_exceptions=True)
    may_end.set()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    threads.shutdown()

    assert len(keys) <= 100 * READERS
