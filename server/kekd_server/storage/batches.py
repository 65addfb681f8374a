"""Batches: the entries of one call, read or written a few at a time in the threads of a store."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

from kekd_server.model.errors import CallAbandonedError, KekdError
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.push import Push
from kekd_server.storage.watch.hub import RunInThread
from kekd_server.storage.write_outcomes import IsAbandoned, WriteOutcomes
from kekd_server.storage.write_steps import RunningWrite, Steps

_MAX_READS_PER_TASK: Final = 100
"""Reads before another owner has its turn. They take some milliseconds."""
_MAX_READ_TASK_SECONDS: Final = 0.05
"""A task whose reads wait for a server ends earlier."""
_FIRST_READERS: Final = 4
"""Enough for a server that answers at once: more would only contend for the interpreter."""
_SLOW_READ_SECONDS: Final = 0.003
_READERS_FACTOR: Final = 4
"""By how much slow reads multiply the readers."""
_WRITES_PER_TASK: Final = 16
"""Fewer than reads, as each write waits for the disk."""

K = TypeVar("K")
T = TypeVar("T")
PushResult: TypeAlias = WriteResult | KekdError


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
    """Runs `work` in few tasks, and in up to `limit` while a read takes them
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


async def write_many(
    pushes: Sequence[Push],
    write: Callable[[Push], Steps[PushResult]],
    run: Callable[[Sequence[RunningWrite[PushResult]]], Awaitable[None]],
    *,
    concurrency: int,
    is_abandoned: IsAbandoned,
) -> list[PushResult]:
    """Returns a result for each push, in their order. Pushes of one name are written in that order.
    `run` runs several writes to their ends.

    Once the batch `is_abandoned`, no more writes start, and the rest gets `CallAbandonedError`.
    """
    results: dict[int, PushResult] = {}

    async def work(part: Sequence[int]) -> None:
        for numbers in _groups(pushes, part):
            if is_abandoned():
                return
            writes = [RunningWrite(write(pushes[number])) for number in numbers]
            await run(writes)
            results.update(zip(numbers, (write.outcome() for write in writes), strict=True))

    await asyncio.gather(*map(work, _split(pushes, concurrency)))
    abandoned = CallAbandonedError()
    return [results.get(number, abandoned) for number in range(len(pushes))]


async def write_unremembered(
    pushes: Sequence[Push],
    outcomes: WriteOutcomes,
    write: Callable[[Sequence[Push]], Awaitable[list[PushResult]]],
) -> list[PushResult]:
    """Writes the pushes whose outcome isn't remembered; the others get their remembered result."""
    results: dict[int, PushResult] = {}
    new: dict[int, Push] = {}
    for number, push in enumerate(pushes):
        outcome = outcomes.find(push.attempt.id) if push.attempt else None
        if outcome and not outcome.is_refusal:
            results[number] = outcome.result
        else:
            new[number] = _without_retry_flag(push) if outcome else push
    written = await write(list(new.values()))
    for (number, push), result in zip(new.items(), written, strict=True):
        if push.attempt:
            outcomes.add(push.attempt.id, result)
        results[number] = result
    return [results[number] for number in range(len(pushes))]


def _without_retry_flag(push: Push) -> Push:
    return push._replace(attempt=push.attempt and push.attempt._replace(is_retry=False))


def _groups(pushes: Sequence[Push], part: Sequence[int]) -> Iterator[list[int]]:
    """Divides positions into groups, in their order. A group has each name at most once, as its
    writes run in no order.
    """
    group: dict[str, int] = {}
    for number in part:
        key = pushes[number].name.key
        if key in group or len(group) == _WRITES_PER_TASK:
            yield list(group.values())
            group = {}
        group[key] = number
    if group:
        yield list(group.values())


def _split(pushes: Sequence[Push], count: int) -> list[list[int]]:
    """Divides the positions of the pushes into parts. Those of one name share a part."""
    parts: list[list[int]] = [[] for _ in range(count)]
    ranks: dict[str, int] = {}
    for number, push in enumerate(pushes):
        rank = ranks.setdefault(push.name.key, len(ranks))
        parts[rank % count].append(number)
    return parts
