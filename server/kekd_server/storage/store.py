"""A store: a driver at a location, with envelopes in place of records and awaitable methods."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from math import ceil
from types import TracebackType
from typing import Final, TypeVar

from kekd_schema import CorruptRecordError, Envelope, decode, encode
from kekd_server.model.deadline import Deadline, with_deadline
from kekd_server.model.errors import (
    CorruptEnvelopeError,
    CorruptVersionError,
    EnvelopeNotFoundError,
    KekdError,
    NothingToUndeleteError,
    OutcomeUnknownError,
    StoreMisconfiguredError,
    StoreUnavailableError,
    WatchFellBehindError,
)
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.batches import (
    PushResult,
    read_many,
    write_many,
    write_unremembered,
)
from kekd_server.storage.destruction import Destruction
from kekd_server.storage.driver import Driver, NameRange, StoredRecord, WriteResult
from kekd_server.storage.fair_executor import FairExecutor
from kekd_server.storage.history_keeper import HistoryKeeper
from kekd_server.storage.hold import Hold
from kekd_server.storage.location import Location
from kekd_server.storage.push import Push
from kekd_server.storage.stored_envelope import StoredEnvelope
from kekd_server.storage.version import Origin, Version, VersionEvent
from kekd_server.storage.version_import import ImportedEnvelope
from kekd_server.storage.version_listing import VersionListing
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.watch.hub import ChangeHub, ChangeWatcher
from kekd_server.storage.watch.subscription import Subscription
from kekd_server.storage.write_attempt import WriteAttempt
from kekd_server.storage.write_outcomes import IsAbandoned, WriteOutcomes, never_abandoned

T = TypeVar("T")
_MAX_VERSIONS: Final = 100
"""Versions on a page. On S3, each may take two requests."""
_DELETION_AND_LAST: Final = 2
_MAX_VERSIONS_BYTES: Final = 2**20

W = TypeVar("W", WriteResult, WriteResult | None)


class Store:
    """Reads and writes the envelopes at one location. Every error gets the store's name.

    Drivers block, so their calls run in threads. Each store has threads of its own, so that one
    that hangs delays no other. Owners (identities) take turns on the threads, and a batch yields
    its turn after a few entries. A call that has started runs to its end, even without its caller.
    """

    def __init__(  # noqa: PLR0913
        self,
        location: Location,
        driver: Driver,
        *,
        threads: int,
        gets_per_thread: int = 1000,
        write_concurrency: int = 1,
        watcher: ChangeWatcher | None = None,
        follow_changes: bool = False,
    ) -> None:
        """`gets_per_thread`: how many reads of a batch are worth another thread.
        `write_concurrency`: how many threads the writes of a batch are divided among.
        `watcher`: reports the writes of other processes, if there can be any. `follow_changes`:
        whether its reports are free, so that the history follows them.
        """
        self.location = location
        self.name = str(location)
        self._driver = driver
        self.confirm = driver.confirm
        self._threads = FairExecutor(threads, name=self.name)
        # Separate threads, so that a busy store doesn't count as down: one for opening the store,
        # one for the check of reads, one for the check of writes, and one to find limitations.
        self._check_threads = ThreadPoolExecutor(4, thread_name_prefix=f"{self.name} check")
        self._gets_per_thread = gets_per_thread
        self._write_concurrency = write_concurrency
        self._error_context = _StoreErrorContext(self.name)
        self._changes = ChangeHub(watcher, self.name)
        self._outcomes = WriteOutcomes()
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
        with self._error_context:
            return await self._run_in_check_thread(lambda: self._driver.open(create=create))

    async def check(self) -> None:
        """Raises the error that prevents reads."""
        with self._error_context:
            await self._run_in_check_thread(self._driver.check)

    async def check_writes(self) -> None:
        """Raises the error that prevents writes."""
        with self._error_context:
            await self._run_in_check_thread(self._driver.check_writes)

    async def find_limitations(self) -> str:
        """See `Driver.find_limitations`."""
        with self._error_context:
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
        with self._error_context:
            stored = self._driver.get_cached(name)
            if stored is None:
                stored = await self._read(lambda: self._driver.get(name), owner, deadline)
            return self._decode(name, stored)

    async def get_many(
        self, names: Sequence[IndexName], *, owner: str = "", deadline: Deadline = None
    ) -> list[StoredEnvelope | KekdError]:
        """Returns for each name what `get` returns or raises."""
        read = read_many(
            names,
            self._get_result,
            partial(self._run_in_executor, owner=owner),
            concurrency=self._read_concurrency(len(names)),
        )
        return await with_deadline(read, deadline, self.name)

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

        def write_record(attempt: WriteAttempt | None) -> WriteResult:
            origin = Origin(VersionEvent.CREATED, owner)
            etag = self._driver.create(name, record, origin=origin, attempt=attempt)
            return WriteResult(etag, None)

        written = await self._write(ChangeKind.CREATED, name, write_record, owner, attempt)
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

        def write_record(attempt: WriteAttempt | None) -> WriteResult:
            origin = Origin(VersionEvent.PUSHED, owner)
            return self._driver.put(name, record, if_etag=if_etag, origin=origin, attempt=attempt)

        return await self._write(ChangeKind.PUSHED, name, write_record, owner, attempt)

    async def put_many(
        self,
        pushes: Sequence[Push],
        *,
        owner: str = "",
        is_abandoned: IsAbandoned = never_abandoned,
    ) -> list[PushResult]:
        """Returns for each push what `put` returns or raises. Pushes of one name are written in
        their order. Each entry is a write of its own.

        Once the batch `is_abandoned`, no more entries start, and the rest gets
        `CallAbandonedError`. A batch with attempts is abandoned when every caller that waits for it
        is gone. It runs to its end if the store can't find out later which entries were applied.
        """
        attempts = [push.attempt for push in pushes if push.attempt]
        if not attempts:
            return await self._put_each(pushes, owner, is_abandoned)
        ids = (bytes.fromhex(attempt.id) for attempt in attempts)
        batch = WriteAttempt.derive(ids, is_retry=attempts[0].is_retry)

        async def put_unknown(_: WriteAttempt | None) -> list[PushResult]:
            has_no_waiter = partial(self._outcomes.is_abandoned, batch.id)
            put = partial(self._put_each, owner=owner, is_abandoned=has_no_waiter)
            return await write_unremembered(pushes, self._outcomes, put)

        if not self._driver.recognizes_attempts:
            is_abandoned = never_abandoned
        return await self._run_once(batch, pushes[0].name, put_unknown, is_abandoned)

    async def _put_each(
        self, pushes: Sequence[Push], owner: str, is_abandoned: IsAbandoned
    ) -> list[PushResult]:
        return await write_many(
            pushes,
            partial(self._put, asyncio.get_running_loop(), owner),
            partial(self._run_in_executor, owner=owner),
            concurrency=self._write_concurrency,
            is_abandoned=is_abandoned,
        )

    async def delete(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> str | None:
        """Removes the envelope and returns the etag that it had; None if there was none."""

        def write_record(attempt: WriteAttempt | None) -> WriteResult | None:
            previous_etag = self._driver.delete(
                name, if_etag=if_etag, caller=owner, attempt=attempt
            )
            return None if previous_etag is None else WriteResult("", previous_etag)

        written = await self._write(ChangeKind.DELETED, name, write_record, owner, attempt)
        return written.previous_etag if written else None

    async def restore(
        self,
        name: IndexName,
        version_id: str,
        *,
        if_etag: str | None,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> WriteResult:
        """Stores the envelope of a version again, as a new version. Otherwise like `put`. Raises
        `VersionNotFoundError` and `CorruptVersionError`.
        """

        def write_record(attempt: WriteAttempt | None) -> WriteResult:
            record = self._version_record(name, version_id)
            origin = Origin(VersionEvent.RESTORED, owner)
            return self._driver.put(name, record, if_etag=if_etag, origin=origin, attempt=attempt)

        return await self._write(ChangeKind.RESTORED, name, write_record, owner, attempt)

    async def undelete(
        self, name: IndexName, *, owner: str = "", attempt: WriteAttempt | None = None
    ) -> str:
        """Creates the envelope that the index had before it was deleted, and returns its etag.
        Raises `EnvelopeExistsError`, `NothingToUndeleteError` and `CorruptVersionError`.
        """

        def write_record(attempt: WriteAttempt | None) -> WriteResult:
            record = self._version_record(name, self._last_version(name).id)
            origin = Origin(VersionEvent.UNDELETED, owner)
            etag = self._driver.create(name, record, origin=origin, attempt=attempt)
            return WriteResult(etag, None)

        written = await self._write(ChangeKind.UNDELETED, name, write_record, owner, attempt)
        return written.etag

    async def destroy(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> Destruction:
        """Removes the envelope and all its versions. Raises `EtagMismatchError` and
        `EnvelopeHeldError`.
        """
        loop = asyncio.get_running_loop()

        def destroy() -> Destruction:
            destroyed = self._driver.destroy(name, if_etag=if_etag, digest=_wrapped_kek_digest)
            self._publish(loop, Change(ChangeKind.DELETED, name))
            return destroyed._replace(store=self.name)

        async def destroy_once(attempt: WriteAttempt | None) -> Destruction:
            if attempt and attempt.is_retry and if_etag is None:
                await self._require_absent(name, owner)
            return await self._run_with_context(destroy, owner)

        return await self._run_once(attempt, name, destroy_once)

    async def import_versions(
        self, name: IndexName, versions: Sequence[ImportedEnvelope], *, owner: str = ""
    ) -> Sequence[Version]:
        """See `Driver.import_versions`."""
        encoded = [version.version for version in versions]
        with self._error_context:
            return await self._run_with_context(
                lambda: self._driver.import_versions(name, encoded), owner
            )

    async def hold(self, name: IndexName, hold: Hold, *, owner: str = "") -> None:
        """See `Driver.hold`."""
        with self._error_context:
            await self._run_with_context(lambda: self._driver.hold(name, hold), owner)

    async def release(self, name: IndexName, *, owner: str = "") -> bool:
        """See `Driver.release`."""
        with self._error_context:
            return await self._run_with_context(lambda: self._driver.release(name), owner)

    async def list_versions(  # noqa: PLR0913
        self,
        name: IndexName,
        after: str,
        limit: int,
        *,
        with_envelopes: bool = False,
        owner: str = "",
        deadline: Deadline = None,
    ) -> VersionListing:
        """See `Driver.list_versions`. A page has at most `_MAX_VERSIONS` versions. With envelopes,
        it ends before they exceed `_MAX_VERSIONS_BYTES`, but not before the first one.
        """
        limit = min(limit, _MAX_VERSIONS)

        def read() -> VersionListing:
            # One more than requested, to see whether there is a next page.
            found = self._driver.list_versions(name, after=after, limit=limit + 1)
            page = found[:limit]
            if with_envelopes:
                page = _first_bytes(page, _MAX_VERSIONS_BYTES)
            hold = None if after else self._driver.find_hold(name)
            return VersionListing(self.name, page, {}, hold, len(found) > len(page))

        async def read_with_envelopes() -> VersionListing:
            listing = await self._run_with_context(read, owner)
            if with_envelopes:
                envelopes = await self._read_versions(name, listing.versions, owner)
                listing = listing._replace(envelopes=envelopes)
            return listing

        with self._error_context:
            return await with_deadline(read_with_envelopes(), deadline, self.name)

    async def get_version(
        self, name: IndexName, version_id: str, *, owner: str = "", deadline: Deadline = None
    ) -> StoredEnvelope:
        """Reads the envelope of a version. Raises `VersionNotFoundError` and
        `CorruptVersionError`.
        """
        with self._error_context:
            return await self._read(lambda: self._read_version(name, version_id), owner, deadline)

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

        with self._error_context:
            return await self._read(read, owner, deadline)

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
        with self._error_context:
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
        self._threads.shutdown()
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

    def _read_concurrency(self, count: int) -> int:
        return min(ceil(count / self._gets_per_thread), self._threads.share)

    def _get_result(self, name: IndexName) -> StoredEnvelope | KekdError:
        try:
            with self._error_context:
                return self._decode(name, self._driver.get(name, bypass_cache=True))
        except KekdError as error:
            return error

    def _decode(self, name: IndexName, stored: StoredRecord) -> StoredEnvelope:
        try:
            return StoredEnvelope(decode(stored.record), stored.etag, self.name, stored)
        except CorruptRecordError as error:
            self.corrupt_records += 1
            raise CorruptEnvelopeError(name.value, str(error)) from error

    async def _require_absent(self, name: IndexName, owner: str) -> None:
        """Raises `OutcomeUnknownError` if there is an envelope: it may be a later one than that of
        an earlier attempt.
        """
        try:
            await self._run_with_context(lambda: self._driver.get(name), owner)
        except EnvelopeNotFoundError:
            return
        raise OutcomeUnknownError(name.value)

    async def _read_versions(
        self, name: IndexName, versions: Sequence[Version], owner: str
    ) -> dict[str, StoredEnvelope | KekdError]:
        """Returns the result for each version with an envelope, by its id."""
        ids = [version.id for version in versions if not version.is_deletion]
        results = await read_many(
            ids,
            partial(self._version_result, name),
            partial(self._run_in_executor, owner=owner),
            concurrency=self._read_concurrency(len(ids)),
        )
        return dict(zip(ids, results, strict=True))

    def _version_result(self, name: IndexName, version_id: str) -> StoredEnvelope | KekdError:
        try:
            with self._error_context:
                return self._read_version(name, version_id)
        except KekdError as error:
            return error

    def _read_version(self, name: IndexName, version_id: str) -> StoredEnvelope:
        stored = self._driver.get_version(name, version_id)
        envelope = _decode_version(name, version_id, stored)
        return StoredEnvelope(envelope, stored.etag, self.name, stored)

    def _version_record(self, name: IndexName, version_id: str) -> bytes:
        """Returns a record that can be stored again, which a corrupt one can't."""
        stored = self._driver.get_version(name, version_id)
        _decode_version(name, version_id, stored)
        return stored.record

    def _last_version(self, name: IndexName) -> Version:
        """Returns the newest version that has an envelope."""
        after = ""
        while page := self._driver.list_versions(name, after=after, limit=_DELETION_AND_LAST):
            for version in page:
                if not version.is_deletion:
                    return version
            after = page[-1].id
        raise NothingToUndeleteError(name.value)

    async def _run_once(
        self,
        attempt: WriteAttempt | None,
        name: IndexName,
        work: Callable[[WriteAttempt | None], Awaitable[T]],
        is_abandoned: IsAbandoned = never_abandoned,
    ) -> T:
        """Returns the result of a write, from this attempt or from an earlier one."""
        with self._error_context:
            if attempt is None:
                return await work(None)
            if (
                attempt.is_retry
                and not self._driver.recognizes_attempts
                and self._outcomes.may_have_forgotten(attempt)
            ):
                raise OutcomeUnknownError(name.value)
            return await self._outcomes.run(attempt, work, is_abandoned)

    async def _write(
        self,
        kind: ChangeKind,
        name: IndexName,
        write: Callable[[WriteAttempt | None], W],
        owner: str,
        attempt: WriteAttempt | None,
    ) -> W:
        """Runs `write` once for all its attempts, and publishes the change. `write` returns None if
        it changed nothing.

        The thread that writes also publishes: the caller may be gone by then, and the changes of
        two writes are published in their order.
        """
        loop = asyncio.get_running_loop()

        def write_and_publish(attempt: WriteAttempt | None) -> W:
            written = write(attempt)
            if written is not None:
                self._publish(loop, Change(kind, name, written.etag))
            return written

        async def write_once(attempt: WriteAttempt | None) -> W:
            return await self._run_with_context(partial(write_and_publish, attempt), owner)

        return await self._run_once(attempt, name, write_once)

    def _put(self, loop: asyncio.AbstractEventLoop, owner: str, push: Push) -> PushResult:
        try:
            with self._error_context:
                record = encode(push.envelope)
                written = self._driver.put(
                    *(push.name, record),
                    if_etag=push.if_etag,
                    origin=Origin(VersionEvent.PUSHED, owner),
                    attempt=push.attempt,
                )
        except KekdError as error:
            return error
        self._publish(loop, Change(ChangeKind.PUSHED, push.name, written.etag))
        return written

    def _publish(self, loop: asyncio.AbstractEventLoop, change: Change) -> None:
        if self._changes.has_subscribers:
            loop.call_soon_threadsafe(self._changes.publish, change)

    async def _read(self, call: Callable[[], T], owner: str, deadline: Deadline) -> T:
        return await with_deadline(self._run_with_context(call, owner), deadline, self.name)

    async def _run_with_context(self, call: Callable[[], T], owner: str) -> T:
        """Runs a call in the current context, where OpenTelemetry keeps the parent span."""
        return await self._run_in_executor(partial(copy_context().run, call), owner)

    async def _run_in_executor(self, call: Callable[[], T], owner: str) -> T:
        """Runs a call without a context, so that a batch doesn't make a span for each entry."""
        return await asyncio.wrap_future(self._threads.submit(owner, call))

    async def _run_in_history_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._history_thread, call)

    async def _run_in_check_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._check_threads, call)


def _decode_version(name: IndexName, version_id: str, stored: StoredRecord) -> Envelope:
    try:
        return decode(stored.record)
    except CorruptRecordError as error:
        raise CorruptVersionError(name.value, version_id, str(error)) from error


def _wrapped_kek_digest(record: bytes) -> str:
    """Returns the SHA-256 of a record's wrapped KEK; empty if it has none or is corrupt."""
    try:
        wrapped_kek = decode(record).wrapped_kek
    except CorruptRecordError:
        return ""
    return hashlib.sha256(wrapped_kek).hexdigest() if wrapped_kek else ""


def _first_bytes(versions: Sequence[Version], limit: int) -> Sequence[Version]:
    """Returns the first versions whose records have at most `limit` bytes, but at least one."""
    total = 0
    for place, version in enumerate(versions):
        total += version.size
        if place and total > limit:
            return versions[:place]
    return versions


class _StoreErrorContext:
    """Sets the store's name on an error. A class, as a generator takes longer than a get may."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, KekdError):
            error.store = self._name
