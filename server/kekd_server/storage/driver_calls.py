"""The calls of a store's driver."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from functools import partial
from math import ceil
from types import TracebackType
from typing import Any, Final, TypeVar

from kekd_server.model.deadline import Deadline, with_deadline
from kekd_server.model.errors import KekdError, OutcomeUnknownError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.batch_reads import read_many
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.fair_executor import FairExecutor
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import ChangeHub
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.groups import WriteGroups
from kekd_server.storage.writes.outcomes import IsAbandoned, WriteOutcomes, never_abandoned
from kekd_server.storage.writes.steps import RunningWrite, Steps, finish_all

_MAX_PART: Final = 16
"""Fewer than reads, as each write waits for the store."""

K = TypeVar("K")
T = TypeVar("T")
W = TypeVar("W", WriteResult, WriteResult | None)


class DriverCalls:
    """Runs a driver's calls in threads, runs each write once for all its attempts, and publishes
    the changes. `run_once` and `write` set the store's name on their errors; other callers use
    `error_context`.

    Owners (identities) take turns on the threads, and a batch yields its turn after a few entries.
    A call that has started runs to its end, even without its caller.
    """

    def __init__(  # noqa: PLR0913
        self,
        name: str,
        changes: ChangeHub,
        *,
        threads: int,
        gets_per_thread: int,
        write_group: int,
        recognizes_attempts: bool,
    ) -> None:
        self.error_context = _StoreErrorContext(name)
        self.threads = FairExecutor(threads, name=name)
        self.outcomes = WriteOutcomes()
        self._groups = WriteGroups(self.threads, write_group) if write_group > 1 else None
        self._name = name
        self._changes = changes
        self._gets_per_thread = gets_per_thread
        self._recognizes_attempts = recognizes_attempts

    async def read(self, call: Callable[[], T], owner: str, deadline: Deadline) -> T:
        return await with_deadline(self.run_with_context(call, owner), deadline, self._name)

    async def read_many(self, keys: Sequence[K], read: Callable[[K], T], owner: str) -> list[T]:
        """Returns a result for each key, in their order."""
        return await read_many(
            keys,
            read,
            partial(self.run_in_executor, owner=owner),
            concurrency=min(ceil(len(keys) / self._gets_per_thread), self.threads.share),
        )

    async def run_with_context(self, call: Callable[[], T], owner: str) -> T:
        """Runs a call in the current context, where OpenTelemetry keeps the parent span."""
        return await self.run_in_executor(partial(copy_context().run, call), owner)

    async def run_in_executor(self, call: Callable[[], T], owner: str) -> T:
        """Runs a call without a context, so that a batch doesn't make a span for each entry."""
        return await asyncio.wrap_future(self.threads.submit(owner, call))

    @property
    def max_part(self) -> int:
        """How many writes of a batch may run in one thread, before other calls get it."""
        return self._groups.size if self._groups else _MAX_PART

    async def run_writes(self, writes: Sequence[RunningWrite[Any]], owner: str) -> None:
        """Runs one write, or those of a part of a batch, to their ends."""
        if self._groups is None:
            await self.run_in_executor(partial(finish_all, writes), owner)
        else:
            await self._groups.run(writes, owner)

    async def run_once(
        self,
        attempt: WriteAttempt | None,
        name: IndexName,
        work: Callable[[WriteAttempt | None], Awaitable[T]],
        is_abandoned: IsAbandoned = never_abandoned,
    ) -> T:
        """Returns the result of a write, from this attempt or from an earlier one."""
        with self.error_context:
            if attempt is None:
                return await work(None)
            if (
                attempt.is_retry
                and not self._recognizes_attempts
                and self.outcomes.may_have_forgotten(attempt)
            ):
                raise OutcomeUnknownError(name.value)
            return await self.outcomes.run(attempt, work, is_abandoned)

    async def write(
        self,
        kind: ChangeKind,
        name: IndexName,
        write: Callable[[WriteAttempt | None], Steps[W]],
        owner: str,
        attempt: WriteAttempt | None,
    ) -> W:
        """Runs `write` once for all its attempts, together with other writes of the owner, and
        publishes the change. `write` returns None if it changed nothing.

        The thread that writes also publishes: the caller may be gone by then, and the changes of
        two writes are published in their order.
        """
        loop = asyncio.get_running_loop()

        # Quoted, as a subscript takes a microsecond at each call.
        def write_and_publish(attempt: WriteAttempt | None) -> "Steps[W]":
            written = yield from write(attempt)
            if written is not None:
                self.publish(loop, Change(kind, name, written.etag))
            return written

        async def write_once(attempt: WriteAttempt | None) -> W:
            # In the current context, where OpenTelemetry keeps the parent span.
            running = RunningWrite(write_and_publish(attempt), copy_context())
            await self.run_writes([running], owner)
            return running.outcome()

        return await self.run_once(attempt, name, write_once)

    def publish(self, loop: asyncio.AbstractEventLoop, change: Change) -> None:
        """Called in any thread."""
        if self._changes.has_subscribers:
            loop.call_soon_threadsafe(self._changes.publish, change)


class _StoreErrorContext:
    """Sets the store's name on an error. A class, because `contextmanager` takes longer than a
    cached get.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, KekdError):
            error.store = self._name
