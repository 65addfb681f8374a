"""A store: a driver at a location, with envelopes in place of records and awaitable."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from math import ceil
from types import TracebackType
from typing import Final, NamedTuple, TypeVar

from kekd_schema import CorruptRecordError, Envelope, decode, encode
from kekd_server.model.deadline import in_time
from kekd_server.model.errors import (
    CallAbandonedError,
    CorruptEnvelopeError,
    KekdError,
    OutcomeUnknownError,
    StoreMisconfiguredError,
    StoreUnavailableError,
    WatchFellBehindError,
)
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.driver import Driver, NameRange, StoredRecord, WriteResult
from kekd_server.storage.fair_executor import FairExecutor
from kekd_server.storage.location import Location
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import ChangeHub, ChangeWatcher
from kekd_server.storage.watch.subscription import Subscription
from kekd_server.storage.write_attempt import WriteAttempt
from kekd_server.storage.write_outcomes import IsAbandoned, WriteOutcomes, never_abandoned

_GETS_A_TURN: Final = 100
"""Entries of a batch that are read before it is another owner's turn: some milliseconds."""
_PUTS_A_TURN: Final = 8
"""The same of those that are written, of which each waits for the disk."""

T = TypeVar("T")
W = TypeVar("W", WriteResult, WriteResult | None)


class StoredEnvelope(NamedTuple):
    envelope: Envelope
    etag: str
    store: str
    """Its name."""


class Push(NamedTuple):
    name: IndexName
    envelope: Envelope
    if_etag: str | None


class Store:
    """What the service calls. Every failure leaves it with the store's name on it.

    Drivers block, so their calls run in threads: each store has its own, so that one which hangs
    holds up no other. `owner` is whose work a call is: owners take turns with the threads, and a
    batch takes a turn for each few of its entries. A call that was begun is finished, even if its
    caller has gone away.
    """

    def __init__(  # noqa: PLR0913
        self,
        location: Location,
        driver: Driver,
        *,
        threads: int,
        gets_per_task: int = 1000,
        write_concurrency: int = 1,
        source: ChangeWatcher | None = None,
    ) -> None:
        """`gets_per_task`: of many, how many are so short together that a thread of their own for
        each would take longer. `write_concurrency`: among how many those of a batch are divided.
        `source`: what tells of writes that aren't made through here, if any can be.
        """
        self.location = location
        self.name = str(location)
        self._driver = driver
        self._threads = FairExecutor(threads, name=self.name)
        # Their own, so that a store which is busy isn't taken for one that is down: one for its
        # opening, one for looks at reads, and one for looks at writes.
        self._check_threads = ThreadPoolExecutor(3, thread_name_prefix=f"{self.name} check")
        self._gets_a_thread = gets_per_task
        self._pushing_threads = write_concurrency
        self._named = _Named(self.name)
        self._changes = ChangeHub(source, self.name)
        self._outcomes = WriteOutcomes()
        self.watchers = 0
        self.watches_dropped = 0
        """How many were ended for a reason of the store's or of who watched."""
        self.corrupt = 0
        """How many records were read that are no envelopes."""

    async def open(self, *, create: bool = False) -> bool:
        """To be called once, at a start. Whether it made a new keystore, which it may `create`."""
        with self._named:
            return await self._in_check_thread(lambda: self._driver.open(create=create))

    async def check(self) -> None:
        """Raises what keeps the store from answering."""
        with self._named:
            await self._in_check_thread(self._driver.check)

    async def check_writes(self) -> None:
        """Raises what keeps the store from being written."""
        with self._named:
            await self._in_check_thread(self._driver.check_writes)

    async def inspect(self, look: Callable[[Location], T]) -> T:
        """What a function finds out about the place of the store. It may wait for the disk."""
        return await self._in_check_thread(lambda: look(self.location))

    async def get(self, name: IndexName, *, owner: str = "") -> StoredEnvelope:
        """Handing it to a thread takes as long as all the rest: only what may block is."""
        with self._named:
            stored = self._driver.get_cached(name)
            if stored is None:
                stored = await self._read(lambda: self._driver.get(name), owner)
            return self._decoded(name, stored)

    async def get_many(
        self, names: Sequence[IndexName], *, owner: str = ""
    ) -> list[StoredEnvelope | KekdError]:
        """For each name what `get` answers with or raises."""
        size = min(self._gets_a_thread, _GETS_A_TURN)
        turns = enumerate(names[at : at + size] for at in range(0, len(names), size))
        found: dict[int, Sequence[StoredEnvelope | KekdError]] = {}

        async def take_turns() -> None:
            for number, turn in turns:
                found[number] = await self._apart(partial(self._got, turn), owner)

        at_once = min(ceil(len(names) / self._gets_a_thread), self._threads.share)
        await in_time(asyncio.gather(*(take_turns() for _ in range(at_once))), self.name)
        return list(chain.from_iterable(found[number] for number in sorted(found)))

    async def create(
        self,
        name: IndexName,
        envelope: Envelope,
        *,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> str:
        record = encode(envelope)

        def create(attempt: WriteAttempt | None) -> WriteResult:
            return WriteResult(self._driver.create(name, record, attempt=attempt), None)

        written = await self._once(
            attempt, name, partial(self._written, ChangeKind.CREATED, name, create, owner)
        )
        return written.etag

    async def put(
        self,
        name: IndexName,
        envelope: Envelope,
        *,
        if_etag: str | None,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> WriteResult:
        record = encode(envelope)

        def put(attempt: WriteAttempt | None) -> WriteResult:
            return self._driver.put(name, record, if_etag=if_etag, attempt=attempt)

        return await self._once(
            attempt, name, partial(self._written, ChangeKind.PUSHED, name, put, owner)
        )

    async def put_many(
        self,
        pushes: Sequence[Push],
        *,
        owner: str = "",
        is_abandoned: IsAbandoned = never_abandoned,
        attempts: Sequence[WriteAttempt] | None = None,
    ) -> list[WriteResult | KekdError]:
        """For each what `put` answers with or raises. Those of one name are done in their order.
        Each entry is a write of its own, with an attempt of its own.

        Once it `is_abandoned`, no more are begun; each of these is a `CallAbandonedError`. A batch
        with attempts is abandoned when every caller who waits for it has gone. It isn't where the
        store couldn't tell at a retry which entries were applied.
        """
        if not pushes:
            return []
        if attempts is None:
            return await self._put_many(pushes, owner, is_abandoned, None)
        ids = (bytes.fromhex(attempt.id) for attempt in attempts)
        batch = WriteAttempt.derive(ids, is_retry=attempts[0].is_retry)
        has_no_waiter = partial(self._outcomes.is_abandoned, batch.id)
        work = partial(self._put_new, pushes, attempts, owner, has_no_waiter)
        if not self._driver.recognizes_attempts:
            is_abandoned = never_abandoned
        return await self._once(batch, pushes[0].name, work, is_abandoned)

    async def _put_new(
        self,
        pushes: Sequence[Push],
        attempts: Sequence[WriteAttempt],
        owner: str,
        is_abandoned: IsAbandoned,
        _batch: WriteAttempt | None,
    ) -> list[WriteResult | KekdError]:
        """As `put_many`, without those whose result is remembered."""
        results: dict[int, WriteResult | KekdError] = {}
        new: dict[int, WriteAttempt] = {}
        for number, attempt in enumerate(attempts):
            outcome = self._outcomes.find(attempt.id)
            if outcome and not outcome.is_refusal:
                results[number] = outcome.result
            else:
                new[number] = attempt._replace(is_retry=attempt.is_retry and outcome is None)
        put = await self._put_many(
            [pushes[number] for number in new], owner, is_abandoned, list(new.values())
        )
        for (number, attempt), result in zip(new.items(), put, strict=True):
            self._outcomes.add(attempt.id, result)
            results[number] = result
        return [results[number] for number in range(len(pushes))]

    async def _put_many(
        self,
        pushes: Sequence[Push],
        owner: str,
        is_abandoned: IsAbandoned,
        attempts: Sequence[WriteAttempt] | None,
    ) -> list[WriteResult | KekdError]:
        loop = asyncio.get_running_loop()
        parts: list[list[int]] = [[] for _ in range(self._pushing_threads)]
        turns: dict[str, int] = {}
        for number, push in enumerate(pushes):
            turn = turns.setdefault(push.name.key, len(turns))
            parts[turn % len(parts)].append(number)
        results: dict[int, WriteResult | KekdError] = {}

        def put(part: Sequence[int]) -> None:
            for number in part:
                attempt = attempts[number] if attempts else None
                results[number] = self._put(loop, pushes[number], attempt)

        async def take_turns(part: Sequence[int]) -> None:
            for at in range(0, len(part), _PUTS_A_TURN):
                if is_abandoned():
                    return
                await self._apart(partial(put, part[at : at + _PUTS_A_TURN]), owner)

        await asyncio.gather(*map(take_turns, parts))
        abandoned = CallAbandonedError()
        return [results.get(number, abandoned) for number in range(len(pushes))]

    async def delete(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> str | None:
        """The etag of what was removed; None if there was nothing."""

        def delete(attempt: WriteAttempt | None) -> WriteResult | None:
            before = self._driver.delete(name, if_etag=if_etag, attempt=attempt)
            return None if before is None else WriteResult("", before)

        written = await self._once(
            attempt, name, partial(self._written, ChangeKind.DELETED, name, delete, owner)
        )
        return written.before if written else None

    async def list(
        self,
        wanted: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,
        owner: str = "",
    ) -> list[IndexName]:
        with self._named:
            return await self._read(
                lambda: self._driver.list(wanted, after, limit, listing=listing), owner
            )

    @asynccontextmanager
    async def watch(
        self,
        prefix: NamePrefix,
        is_visible: Callable[[str], bool] = lambda _: True,
        *,
        is_idle: bool = False,
    ) -> AsyncIterator[Subscription]:
        """Subscribes to changes that `is_visible` accepts, from entry on; none that was
        acknowledged is missed. `is_idle`: heartbeats only, without polling the store.
        """
        with self._named:
            async with self._subscribed(prefix, is_visible, is_idle=is_idle) as subscription:
                self.watchers += 1
                try:
                    yield subscription
                except (StoreUnavailableError, StoreMisconfiguredError, WatchFellBehindError):
                    self.watches_dropped += 1
                    raise
                finally:
                    self.watchers -= 1

    @asynccontextmanager
    async def _subscribed(
        self, prefix: NamePrefix, is_visible: Callable[[str], bool], *, is_idle: bool
    ) -> AsyncIterator[Subscription]:
        if is_idle:
            with self._changes.unsubscribed() as subscription:
                yield subscription
        else:
            async with self._changes.subscribed(prefix, is_visible) as subscription:
                yield subscription

    def end_watches(self) -> None:
        self._changes.end()

    def close(self) -> None:
        """Doesn't wait for a call that the driver is still in, and which nobody waits for."""
        self._threads.shutdown()
        self._check_threads.shutdown(wait=False, cancel_futures=True)
        self._changes.close()
        self._driver.close()

    def _got(self, names: Sequence[IndexName]) -> Sequence[StoredEnvelope | KekdError]:
        found: list[StoredEnvelope | KekdError] = []
        for name in names:
            try:
                with self._named:
                    found.append(self._decoded(name, self._driver.get(name, once=True)))
            except KekdError as error:
                found.append(error)
        return found

    def _decoded(self, name: IndexName, stored: StoredRecord) -> StoredEnvelope:
        try:
            return StoredEnvelope(decode(stored.record), stored.etag, self.name)
        except CorruptRecordError as error:
            self.corrupt += 1
            raise CorruptEnvelopeError(name.value, str(error)) from error

    async def _once(
        self,
        attempt: WriteAttempt | None,
        name: IndexName,
        work: Callable[[WriteAttempt | None], Awaitable[T]],
        is_abandoned: IsAbandoned = never_abandoned,
    ) -> T:
        """The outcome of a write, from this attempt or from an earlier one."""
        with self._named:
            if attempt is None:
                return await work(None)
            if (
                attempt.is_retry
                and not self._driver.recognizes_attempts
                and self._outcomes.may_have_forgotten(attempt)
            ):
                raise OutcomeUnknownError(name.value)
            return await self._outcomes.run(attempt, work, is_abandoned)

    async def _written(
        self,
        kind: ChangeKind,
        name: IndexName,
        write: Callable[[WriteAttempt | None], W],
        owner: str,
        attempt: WriteAttempt | None,
    ) -> W:
        """Does a write, which answers with None if there was no change.

        The thread that does it has it told, before its answer comes: the caller may be gone by
        then, and of two writes the first is told first.
        """
        loop = asyncio.get_running_loop()

        def write_and_tell() -> W:
            written = write(attempt)
            if written is not None:
                self._tell(loop, Change(kind, name, written.etag))
            return written

        return await self._in_thread(write_and_tell, owner)

    def _put(
        self, loop: asyncio.AbstractEventLoop, push: Push, attempt: WriteAttempt | None
    ) -> WriteResult | KekdError:
        name, envelope, if_etag = push
        try:
            with self._named:
                written = self._driver.put(name, encode(envelope), if_etag=if_etag, attempt=attempt)
        except KekdError as error:
            return error
        self._tell(loop, Change(ChangeKind.PUSHED, name, written.etag))
        return written

    def _tell(self, loop: asyncio.AbstractEventLoop, change: Change) -> None:
        if self._changes.watched:
            loop.call_soon_threadsafe(self._changes.publish, change)

    async def _read(self, call: Callable[[], T], owner: str) -> T:
        return await in_time(self._in_thread(call, owner), self.name)

    async def _in_thread(self, call: Callable[[], T], owner: str) -> T:
        """In the context of the call that it is for, which a trace has its place in."""
        return await self._apart(partial(contextvars.copy_context().run, call), owner)

    async def _apart(self, call: Callable[[], T], owner: str) -> T:
        """In no context: of what a batch does, nobody wants a thousand spans."""
        return await asyncio.wrap_future(self._threads.submit(owner, call))

    async def _in_check_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._check_threads, call)


class _Named:
    """Puts the store's name on a failure. A class, as a generator takes longer than a get may."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, KekdError):
            error.store = self._name
