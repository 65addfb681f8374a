"""Reads of several records in one call, a few at a time in the threads of a store."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, TypeVar

from kekd_server.storage.watch.hub import RunInThread

_MAX_READS_PER_TASK: Final = 100
"""Reads before other owners have their turn. They take some milliseconds."""
_MAX_READ_TASK_SECONDS: Final = 0.05
"""A task ends after this time, as its reads wait for a server."""
_FIRST_READERS: Final = 4
"""Enough for a server that answers at once: more would only contend for the interpreter."""
_SLOW_READ_SECONDS: Final = 0.003
_READERS_FACTOR: Final = 4
"""By how much slow reads multiply the readers."""

K = TypeVar("K")
T = TypeVar("T")


async def read_many(
    keys: Sequence[K],
    read: Callable[[K], T],
    run: RunInThread,
    *,
    concurrency: int,
) -> list[T]:
    """Returns a result for each key, in their order. Each task in a thread reads several keys,
    because fast reads take less time than a thread switch.

    A few readers begin. While they wait for a slow server, more join them, up to `concurrency`.
    """
    remaining = enumerate(keys)
    results: dict[int, T] = {}

    def read_some() -> bool:
        """Returns false after the last key."""
        end = time.monotonic() + _MAX_READ_TASK_SECONDS
        for _ in range(_MAX_READS_PER_TASK):
            try:
                number, key = next(remaining)
            except StopIteration:
                return False
            results[number] = read(key)
            if time.monotonic() >= end:
                break
        return True

    async def work() -> None:
        while await run(read_some):
            pass

    await _run_readers(work, lambda: len(results), concurrency)
    return [results[number] for number in range(len(keys))]


async def _run_readers(
    work: Callable[[], Coroutine[None, None, None]], count_results: Callable[[], int], limit: int
) -> None:
    """Runs `work` in a few tasks, and in up to `limit` while their reads take longer than
    `_SLOW_READ_SECONDS`.
    """
    readers = [asyncio.create_task(work()) for _ in range(min(limit, _FIRST_READERS))]
    try:
        while len(readers) < limit:
            before = count_results()
            _, working = await asyncio.wait(readers, timeout=_SLOW_READ_SECONDS)
            if not working:
                break
            if count_results() - before < len(readers):
                count = min(limit, _READERS_FACTOR * len(readers)) - len(readers)
                readers += [asyncio.create_task(work()) for _ in range(count)]
        await asyncio.gather(*readers)
    finally:
        for reader in readers:
            reader.cancel()
