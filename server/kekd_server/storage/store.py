"""A store: a driver at a location, with envelopes in place of records and awaitable methods."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar, cast

from kekd_schema import CorruptRecordError, Envelope, decode, encode
from kekd_server.model.deadline import Deadline, with_deadline
from kekd_server.model.errors import (
    CorruptEnvelopeError,
    KekdError,
    StoreMisconfiguredError,
    StoreUnavailableError,
    WatchFellBehindError,
)
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.driver import Driver, NameRange, StoredRecord, WriteResult
from kekd_server.storage.driver_calls import DriverCalls
from kekd_server.storage.history.envelope_versions import EnvelopeVersions
from kekd_server.storage.history.keeper import HistoryKeeper
from kekd_server.storage.history.version import Origin, VersionEvent
from kekd_server.storage.location import Location
from kekd_server.storage.stored_envelope import (
    FindPrepared,
    PreparedEnvelope,
    StoredEnvelope,
    nothing_prepared,
)
from kekd_server.storage.watch.event import ChangeKind
from kekd_server.storage.watch.hub import ChangeHub, ChangeWatcher
from kekd_server.storage.watch.subscription import Subscription
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.batch_writes import BatchWrites
from kekd_server.storage.writes.steps import Steps

T = TypeVar("T")


class Store:
    """Reads and writes the envelopes at one location. Every error gets the store's name.

    Drivers block, so their calls run in threads. Each store has threads of its own, so that one
    that hangs delays no other.
    """

    def __init__(  # noqa: PLR0913
        self,
        location: Location,
        driver: Driver,
        *,
        threads: int,
        gets_per_thread: int = 1000,
        write_concurrency: int = 1,
        write_group: int = 1,
        watcher: ChangeWatcher | None = None,
        follow_changes: bool = False,
    ) -> None:
        """`gets_per_thread`: how many reads of a batch are worth another thread.
        `write_concurrency`: how many parts of a batch run, or wait for a thread, at once.
        `write_group`: how many writes run together in a thread, so that they share fsyncs.
        `watcher`: reports the writes of other processes, if there can be any. `follow_changes`:
        whether its reports are free, so that the history follows them.
        """
        self.location = location
        self.name = str(location)
        self._driver = driver
        self.confirm = driver.confirm
        self._confirming = asyncio.Lock()
        # Separate threads, so that a busy store doesn't count as down: one for opening the store,
        # one for the check of reads, one for the check of writes, and one to find limitations.
        self._check_threads = ThreadPoolExecutor(4, thread_name_prefix=f"{self.name} check")
        self._changes = ChangeHub(watcher, self.name)
        self._calls = DriverCalls(
            self.name,
            self._changes,
            threads=threads,
            gets_per_thread=gets_per_thread,
            write_group=write_group,
            recognizes_attempts=driver.recognizes_attempts,
        )
        batch_writes = BatchWrites(driver, self._calls, concurrency=write_concurrency)
        self.put_many = batch_writes.put_many
        self.versions = EnvelopeVersions(self.name, driver, self._calls)
        self._follow_changes = follow_changes
        self._history_thread = ThreadPoolExecutor(1, thread_name_prefix=f"{self.name} history")
        self.history = HistoryKeeper(self.name, driver, self._changes, self._run_in_history_thread)
        self.subscribers = 0
        self.watches_dropped = 0
        """Watches that the store ended, or that fell behind."""
        self.corrupt_records = 0

    async def open(self, *, create: bool = False) -> bool:
        """Opens the keystore, and creates one if there is none and `create` is true. Returns
        whether it created one. Called once, at startup.
        """
        with self._calls.error_context:
            return await self._run_in_check_thread(lambda: self._driver.open(create=create))

    async def check(self) -> None:
        """Raises the error that prevents reads."""
        with self._calls.error_context:
            await self._run_in_check_thread(self._driver.check)

    async def check_writes(self) -> None:
        """Raises the error that prevents writes."""
        with self._calls.error_context:
            await self._run_in_check_thread(self._driver.check_writes)

    async def find_limitations(self) -> str:
        """See `Driver.find_limitations`."""
        with self._calls.error_context:
            return await self._run_in_check_thread(self._driver.find_limitations)

    def describe_history(self) -> str:
        """See `Driver.describe_history`."""
        return self._driver.describe_history()

    async def inspect(self, inspect: Callable[[Location], T]) -> T:
        """Calls a function that may block with the store's location."""
        return await self._run_in_check_thread(lambda: inspect(self.location))

    async def keep_history(self) -> None:
        """Runs until it is cancelled."""
        await self.history.run(follow_changes=self._follow_changes)

    async def get(
        self, name: IndexName, *, owner: str = "", deadline: Deadline = None
    ) -> StoredEnvelope:
        """Reads an envelope. Uses a thread only if that may block, as it doubles the time."""
        with self._calls.error_context:
            stored = self._driver.get_cached(name)
            if stored is None:
                stored = await self._calls.read(lambda: self._driver.get(name), owner, deadline)
            return self._decode(name, stored)

    async def get_many(
        self,
        names: Sequence[IndexName],
        *,
        find_prepared: FindPrepared = nothing_prepared,
        owner: str = "",
        deadline: Deadline = None,
    ) -> list[StoredEnvelope | PreparedEnvelope | KekdError]:
        """Returns for each name its prepared envelope if the record is unchanged, and otherwise
        what `get` returns or raises.
        """
        prepared = await with_deadline(self._confirm(names, find_prepared), deadline, self.name)
        if None not in prepared:
            return cast("list[StoredEnvelope | PreparedEnvelope | KekdError]", prepared)
        others = [name for name, found in zip(names, prepared, strict=True) if found is None]
        read = self._calls.read_many(others, self._get_result, owner)
        results = iter(await with_deadline(read, deadline, self.name))
        return [found or next(results) for found in prepared]

    async def _confirm(
        self, names: Sequence[IndexName], find_prepared: FindPrepared
    ) -> list[PreparedEnvelope | None]:
        """Returns the prepared envelopes whose records are unchanged. Lets other calls run after
        each batch, which several batches would otherwise delay.
        """
        async with self._confirming:
            prepared = self._find_prepared(names, find_prepared)
            await asyncio.sleep(0)
            return prepared

    def _find_prepared(
        self, names: Sequence[IndexName], find_prepared: FindPrepared
    ) -> list[PreparedEnvelope | None]:
        found = find_prepared(self.name, names)
        proofs = [prepared and prepared.proof for prepared in found]
        confirmed = self._driver.confirm_all(names, proofs)
        return [
            prepared if is_unchanged else None
            for prepared, is_unchanged in zip(found, confirmed, strict=True)
        ]

    async def create(
        self,
        name: IndexName,
        envelope: Envelope,
        *,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> str:
        """Stores the first envelope of a name and returns its etag."""
        record = encode(envelope)

        def write_record(attempt: WriteAttempt | None) -> "Steps[WriteResult]":
            origin = Origin(VersionEvent.CREATED, owner)
            steps = self._driver.create(name, record, origin=origin, attempt=attempt)
            return WriteResult((yield from steps), None)

        written = await self._calls.write(ChangeKind.CREATED, name, write_record, owner, attempt)
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
        """Stores an envelope, and replaces any that is there."""
        record = encode(envelope)

        def write_record(attempt: WriteAttempt | None) -> "Steps[WriteResult]":
            origin = Origin(VersionEvent.PUSHED, owner)
            return self._driver.put(name, record, if_etag=if_etag, origin=origin, attempt=attempt)

        return await self._calls.write(ChangeKind.PUSHED, name, write_record, owner, attempt)

    async def delete(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> str | None:
        """Removes the envelope and returns the etag that it had; None if there was none."""

        def write_record(attempt: WriteAttempt | None) -> "Steps[WriteResult | None]":
            steps = self._driver.delete(name, if_etag=if_etag, caller=owner, attempt=attempt)
            previous_etag = yield from steps
            return None if previous_etag is None else WriteResult("", previous_etag)

        written = await self._calls.write(ChangeKind.DELETED, name, write_record, owner, attempt)
        return written.previous_etag if written else None

    async def list(  # noqa: PLR0913
        self,
        names: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,
        show_deleted: bool = False,
        owner: str = "",
        deadline: Deadline = None,
    ) -> list[IndexName]:
        """See `Driver.list`."""

        def read() -> list[IndexName]:
            return self._driver.list(
                names, after, limit, listing=listing, show_deleted=show_deleted
            )

        with self._calls.error_context:
            return await self._calls.read(read, owner, deadline)

    @asynccontextmanager
    async def watch(
        self,
        prefix: NamePrefix,
        is_visible: Callable[[str], bool] = lambda _: True,
        *,
        is_idle: bool = False,
    ) -> AsyncIterator[Subscription]:
        """Subscribes to changes that `is_visible` accepts. From entry on, it misses no change that
        was acknowledged. `is_idle`: heartbeats only, without polling the store.
        """
        with self._calls.error_context:
            async with self._subscribe(prefix, is_visible, is_idle=is_idle) as subscription:
                self.subscribers += 1
                try:
                    yield subscription
                except (StoreUnavailableError, StoreMisconfiguredError, WatchFellBehindError):
                    self.watches_dropped += 1
                    raise
                finally:
                    self.subscribers -= 1

    def end_watches(self) -> None:
        self._changes.end()

    def close(self) -> None:
        """Doesn't wait for driver calls that are still running: nothing waits for them."""
        self._calls.threads.shutdown()
        self._check_threads.shutdown(wait=False, cancel_futures=True)
        self._history_thread.shutdown(wait=False, cancel_futures=True)
        self._changes.close()
        self._driver.close()

    @asynccontextmanager
    async def _subscribe(
        self, prefix: NamePrefix, is_visible: Callable[[str], bool], *, is_idle: bool
    ) -> AsyncIterator[Subscription]:
        if is_idle:
            with self._changes.subscribe_idle() as subscription:
                yield subscription
        else:
            # The watcher may be running, and waiting for the store to come back.
            await self._run_in_check_thread(self._driver.check)
            async with self._changes.subscribe(prefix, is_visible) as subscription:
                yield subscription

    def _get_result(self, name: IndexName) -> StoredEnvelope | KekdError:
        try:
            with self._calls.error_context:
                return self._decode(name, self._driver.get(name, bypass_cache=True))
        except KekdError as error:
            return error

    def _decode(self, name: IndexName, stored: StoredRecord) -> StoredEnvelope:
        try:
            return StoredEnvelope(decode(stored.record), stored.etag, self.name, stored)
        except CorruptRecordError as error:
            self.corrupt_records += 1
            raise CorruptEnvelopeError(name.value, str(error)) from error

    async def _run_in_history_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._history_thread, call)

    async def _run_in_check_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._check_threads, call)
