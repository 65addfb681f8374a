"""Writes of one owner that arrive together run together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, NamedTuple

from kekd_server.storage.fair_executor import FairExecutor
from kekd_server.storage.writes.steps import RunningWrite, finish_all, run_together

_MAX_GROUPS: Final = 3
"""Groups of one owner at once. While some wait for the disk, another one runs."""
_FEW_WRITES: Final = 4
"""While fewer writes run, another group starts at once. With more, groups would mostly compete for
the interpreter, so the next one waits until it is full or writes have ended.
"""

_SYNC_THREADS: Final = 8
"""Threads of a store that help its groups to wait for the disk. One owner gets six of them."""

_SLOW_SECONDS: Final = 1.0
_SLOW_SIZE: Final = 8
"""The most writes of the first group, and of one after a group that took longer than
`_SLOW_SECONDS`. Each holds its lock until the files of the whole group are synced, and other writes
give up if they wait too long for a lock.
"""


class _Entry(NamedTuple):
    """A single write, or the part of a batch that runs in one thread."""

    writes: Sequence[RunningWrite[Any]]
    ended: asyncio.Future[None]

    @property
    def is_part_of_batch(self) -> bool:
        return len(self.writes) > 1


class _OwnerGroups:
    def __init__(self) -> None:
        self.waiting: deque[_Entry] = deque()
        self.running = 0
        self.running_writes = 0
        """The writes of the running groups."""

    def may_start(self, size: int) -> bool:
        """Whether another group may start: few writes run, or a full group of `size` entries waits.
        A part of a batch is one entry, so parts of a full group's size run one after the other.
        """
        return self.running < _MAX_GROUPS and (
            self.running_writes < _FEW_WRITES or len(self.waiting) >= size
        )


class WriteGroups:
    """Runs several writes in one thread. They share the fsyncs of folders, and need fewer thread
    switches. A write that arrives alone doesn't wait for others.

    Like a call of `FairExecutor`, a write that is cancelled before it starts doesn't run, and one
    that has started runs to its end. Use it on the event loop only.
    """

    def __init__(self, threads: FairExecutor, size: int) -> None:
        self._threads = threads
        # Not from `threads`, so that reads don't wait for syncs. Never shut down, because a group
        # may still run after the shutdown. The threads end with this object.
        self._sync_threads = FairExecutor(_SYNC_THREADS, name="sync")
        self._max_size = size
        self._is_slow = True
        """Whether the last group took long, or none has ended."""
        self._owners: dict[str, _OwnerGroups] = {}

    @property
    def size(self) -> int:
        """The most writes of a group now, and so of a part of a batch."""
        return min(self._max_size, _SLOW_SIZE) if self._is_slow else self._max_size

    async def run(self, writes: Sequence[RunningWrite[Any]], owner: str) -> None:
        """Runs a single write, or a part of a batch, to the end."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(_Entry(writes, ended), owner)
        await ended

    def _add(self, entry: _Entry, owner: str) -> None:
        waiting = self._owners.setdefault(owner, _OwnerGroups()).waiting
        waiting.append(entry)
        if len(waiting) in {1, self.size}:
            # In the loop's next iteration, so that calls that arrive together make one group.
            asyncio.get_running_loop().call_soon(self._start, owner)

    def _start(self, owner: str) -> None:
        groups = self._owners.get(owner)
        if groups is None:  # the write that it was called for was cancelled meanwhile
            return
        while groups.waiting and groups.may_start(self.size):
            if group := self._take(groups.waiting):
                groups.running += 1
                groups.running_writes += _count_writes(group)
                run, end = partial(self._run, owner, group), partial(self._end, owner, group)
                self._submit(owner, run, group, end)
        if not (groups.waiting or groups.running):
            del self._owners[owner]

    def _take(self, waiting: deque[_Entry]) -> list[_Entry]:
        """Takes single writes, or one part of a batch."""
        group: list[_Entry] = []
        while waiting and len(group) < self.size:
            if group and (group[0].is_part_of_batch or waiting[0].is_part_of_batch):
                break
            entry = waiting.popleft()
            if not entry.ended.cancelled():
                group.append(entry)
        return group

    def _end(self, owner: str, group: Sequence[_Entry]) -> None:
        for entry in group:
            contended = [write for write in entry.writes if write.pause is not None]
            if contended:
                self._submit(
                    owner, partial(finish_all, contended), [entry], partial(_resolve, entry)
                )
            else:
                _resolve(entry)
        groups = self._owners[owner]
        groups.running -= 1
        groups.running_writes -= _count_writes(group)
        self._start(owner)

    def _submit(
        self,
        owner: str,
        call: Callable[[], object],
        group: Sequence[_Entry],
        end: Callable[[], object],
    ) -> None:
        loop = asyncio.get_running_loop()

        def end_on_loop(called: Future[Any]) -> None:
            if called.cancelled():  # by the shutdown
                _fail(group, asyncio.CancelledError())
            elif error := called.exception():
                _fail(group, error)
            # The loop may be closed, and then no call waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(end)

        try:
            self._threads.submit(owner, call).add_done_callback(end_on_loop)
        except RuntimeError as error:  # after the shutdown
            _fail(group, error)
            loop.call_soon(end)

    def _run(self, owner: str, group: Sequence[_Entry]) -> None:
        began = monotonic()
        entries = [entry for entry in group if not entry.ended.cancelled()]
        writes = [write for entry in entries for write in entry.writes]
        run_together(writes, partial(self._sync_threads.submit, owner))
        self._is_slow = monotonic() - began > _SLOW_SECONDS


def _count_writes(group: Sequence[_Entry]) -> int:
    return sum(len(entry.writes) for entry in group)


def _fail(group: Sequence[_Entry], error: BaseException) -> None:
    for entry in group:
        for write in entry.writes:
            write.fail(error)


def _resolve(entry: _Entry) -> None:
    if not entry.ended.done():  # the waiting call was cancelled
        entry.ended.set_result(None)
