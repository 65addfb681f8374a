"""Writes of one owner that arrive together run together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from kekd_server.storage.fair_executor import FairExecutor
from kekd_server.storage.write_steps import RunningWrite, Steps, run_together

T = TypeVar("T")

_MAX_GROUPS: Final = 3
"""Groups of one owner at once. While some wait for the disk, another one runs."""
_FEW_WRITES: Final = 4
"""While fewer run, another one starts at once. Beyond, groups that run at the same time would
mostly compete for the interpreter, so the next one begins when it is full or has its turn."""


class _GroupedWrite(NamedTuple):
    write: RunningWrite[Any]
    ended: asyncio.Future[Any]


_Turn: TypeAlias = asyncio.Future[None]
"""Resolved when a task of a batch may run."""


class _OwnerGroups:
    def __init__(self) -> None:
        self.waiting: deque[_GroupedWrite | _Turn] = deque()
        self.running = 0
        self.writes = 0
        """Those of the running groups. A task of a batch counts as one."""

    def may_start(self, size: int) -> bool:
        """Whether another group may start, of which a full one has `size` writes."""
        return self.running < _MAX_GROUPS and (
            self.writes < _FEW_WRITES or len(self.waiting) >= size
        )


class WriteGroups:
    """Runs several writes in one thread. They share the fsyncs of folders, and need fewer thread
    switches. A write that arrives alone doesn't wait for others.

    Like a call of `FairExecutor`, a write that is cancelled before it starts doesn't run, and one
    that has started runs to its end. Use it on the event loop only.
    """

    def __init__(self, threads: FairExecutor, size: int) -> None:
        self._threads = threads
        self._size = size
        self._owners: dict[str, _OwnerGroups] = {}

    async def run(self, steps: Steps[T], owner: str) -> T:
        """Runs a write in the current context, where OpenTelemetry keeps the parent span."""
        grouped = _GroupedWrite(
            RunningWrite(steps, copy_context()), asyncio.get_running_loop().create_future()
        )
        self._add(grouped, owner)
        result: T = await grouped.ended
        return result

    async def run_task(self, call: Callable[[], T], owner: str) -> T:
        """Runs several writes of a batch, as a group."""
        turn: _Turn = asyncio.get_running_loop().create_future()
        self._add(turn, owner)
        try:
            await turn
            return await asyncio.wrap_future(self._threads.submit(owner, call))
        finally:
            if not turn.cancelled():
                self._end_turn(owner, 1)

    def _add(self, entry: _GroupedWrite | _Turn, owner: str) -> None:
        waiting = self._owners.setdefault(owner, _OwnerGroups()).waiting
        waiting.append(entry)
        if len(waiting) in {1, self._size}:
            # In the loop's next iteration, so that calls that arrive together make one group.
            asyncio.get_running_loop().call_soon(self._start, owner)

    def _start(self, owner: str) -> None:
        groups = self._owners.get(owner)
        if groups is None:  # the write that it was called for was cancelled meanwhile
            return
        while groups.waiting and groups.may_start(self._size):
            first = groups.waiting[0]
            if isinstance(first, asyncio.Future):
                groups.waiting.popleft()
                self._give_turn(groups, first)
            elif group := self._take(groups.waiting):
                groups.running += 1
                groups.writes += len(group)
                call = partial(run_together, [grouped.write for grouped in group])
                self._submit(owner, call, group, partial(self._end, owner, group))
        if not (groups.waiting or groups.running):
            del self._owners[owner]

    def _give_turn(self, groups: _OwnerGroups, turn: _Turn) -> None:
        if not turn.cancelled():
            groups.running += 1
            groups.writes += 1
            turn.set_result(None)

    def _take(self, waiting: deque[_GroupedWrite | _Turn]) -> list[_GroupedWrite]:
        group: list[_GroupedWrite] = []
        while waiting and len(group) < self._size:
            grouped = waiting[0]
            if not isinstance(grouped, _GroupedWrite):
                break
            waiting.popleft()
            if not grouped.ended.cancelled():
                group.append(grouped)
        return group

    def _end(self, owner: str, group: Sequence[_GroupedWrite]) -> None:
        contended = [grouped for grouped in group if grouped.write.pause is not None]
        for grouped in group:
            if grouped.write.pause is None:
                _resolve(grouped)
        # After the loop above, which reads the pauses that these threads change.
        for grouped in contended:
            self._submit(owner, grouped.write.finish, [grouped], partial(_resolve, grouped))
        self._end_turn(owner, len(group))

    def _end_turn(self, owner: str, writes: int) -> None:
        groups = self._owners[owner]
        groups.running -= 1
        groups.writes -= writes
        self._start(owner)

    def _submit(
        self,
        owner: str,
        call: Callable[[], object],
        group: Sequence[_GroupedWrite],
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


def _fail(group: Sequence[_GroupedWrite], error: BaseException) -> None:
    for grouped in group:
        grouped.write.pause, grouped.write.error = None, error


def _resolve(grouped: _GroupedWrite) -> None:
    write, ended = grouped
    if ended.done():  # the waiting call was cancelled
        return
    if isinstance(write.error, asyncio.CancelledError):
        ended.cancel()
    elif write.error is not None:
        ended.set_exception(write.error)
    else:
        ended.set_result(write.result)
