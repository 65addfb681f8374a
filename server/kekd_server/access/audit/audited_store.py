"""A store that can be used inside an audit scope alone."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

from kekd_schema import Envelope
from kekd_server.access.audit.audit_record import AuditRecord
from kekd_server.access.audit.auditor import Auditor, Records
from kekd_server.access.detached_write import run_detached
from kekd_server.access.repetition import Repetition
from kekd_server.access.request_context import RequestContext
from kekd_server.model.deadline import Deadline
from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.driver import NameRange, WriteResult
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.version import Version
from kekd_server.storage.history.version_import import ImportedEnvelope
from kekd_server.storage.history.version_listing import VersionListing
from kekd_server.storage.store import Store
from kekd_server.storage.stored_envelope import FindPrepared, PreparedEnvelope, StoredEnvelope
from kekd_server.storage.watch.subscription import Subscription
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.outcomes import IsAbandoned
from kekd_server.storage.writes.push import Push

T = TypeVar("T")


class VersionReader(Protocol):
    """What a read can do with the `EnvelopeVersions` of a store."""

    async def get(
        self, name: IndexName, version_id: str, *, owner: str, deadline: Deadline
    ) -> StoredEnvelope: ...

    async def list(  # noqa: PLR0913
        self,
        name: IndexName,
        after: str,
        limit: int,
        *,
        with_envelopes: bool,
        owner: str,
        deadline: Deadline,
    ) -> VersionListing: ...


class StoreReader(Protocol):
    """What a read can do with a `Store`."""

    @property
    def versions(self) -> VersionReader: ...

    async def get(self, name: IndexName, *, owner: str, deadline: Deadline) -> StoredEnvelope: ...

    async def get_many(
        self,
        names: Sequence[IndexName],
        *,
        find_prepared: FindPrepared,
        owner: str,
        deadline: Deadline,
    ) -> list[StoredEnvelope | PreparedEnvelope | KekdError]: ...

    async def list(  # noqa: PLR0913
        self,
        names: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,
        show_deleted: bool,
        owner: str,
        deadline: Deadline,
    ) -> list[IndexName]: ...


class VersionWriter(Protocol):
    """What a write can do with the `EnvelopeVersions` of a store."""

    async def restore(
        self,
        name: IndexName,
        version_id: str,
        *,
        if_etag: str | None,
        owner: str,
        attempt: WriteAttempt | None,
    ) -> WriteResult: ...

    async def undelete(
        self, name: IndexName, *, owner: str, attempt: WriteAttempt | None
    ) -> str: ...

    async def destroy(
        self, name: IndexName, *, if_etag: str | None, owner: str, attempt: WriteAttempt | None
    ) -> Destruction: ...

    async def import_versions(
        self, name: IndexName, versions: Sequence[ImportedEnvelope], *, owner: str
    ) -> Sequence[Version]: ...

    async def hold(self, name: IndexName, hold: Hold, *, owner: str) -> None: ...

    async def release(self, name: IndexName, *, owner: str) -> bool: ...


class StoreWriter(Protocol):
    """What a write can do with a `Store`."""

    @property
    def versions(self) -> VersionWriter: ...

    async def create(
        self, name: IndexName, envelope: Envelope, *, owner: str, attempt: WriteAttempt | None
    ) -> str: ...

    async def put(
        self,
        name: IndexName,
        envelope: Envelope,
        *,
        if_etag: str | None,
        owner: str,
        attempt: WriteAttempt | None,
    ) -> WriteResult: ...

    async def put_many(
        self, pushes: Sequence[Push], *, owner: str, is_abandoned: IsAbandoned
    ) -> list[WriteResult | KekdError]: ...

    async def delete(
        self, name: IndexName, *, if_etag: str | None, owner: str, attempt: WriteAttempt | None
    ) -> str | None: ...


class AuditedStore:
    """Passes the store to the body of an audit scope, and to nothing else. A read can't write."""

    __slots__ = ("_auditor", "_store", "name")

    def __init__(self, store: Store, auditor: Auditor) -> None:
        self._store = store
        self._auditor = auditor
        self.name = store.name

    def read(self, records: Records) -> AbstractAsyncContextManager[StoreReader]:
        """Records how the body ended. Raises `AuditUnavailableError`."""
        return self._auditor.audit_read(records, self._store)

    def repeat_read(
        self, name: IndexName, etag: str, proof: bytes, rule: str | None, repetition: Repetition
    ) -> bool:
        """Returns whether a read would return the record with this proof, and then records it as
        one that succeeded. Returns False if it can't record it without waiting.
        """
        if not self._auditor.records_reads_later or not self._store.confirm(name, proof):
            return False
        self._auditor.enqueue_repeated_read(repetition, self.name, rule, name.value, etag)
        repetition.is_recorded = True
        return True

    async def write(
        self,
        request: RequestContext,
        records: Records,
        work: Callable[[StoreWriter, IsAbandoned], Awaitable[T]],
    ) -> T:
        """Records that the work is about to run, runs it even if the caller stops waiting, and
        records how it ended. Raises `AuditUnavailableError`.
        """
        await self._auditor.record_write_start(records)
        return await run_detached(
            request,
            self.name,
            lambda is_abandoned: self._auditor.run_write(
                records, lambda: work(self._store, is_abandoned)
            ),
        )

    @asynccontextmanager
    async def watch(
        self,
        record: AuditRecord,
        prefix: NamePrefix,
        is_visible: Callable[[str], bool],
        *,
        is_idle: bool,
    ) -> AsyncIterator[Subscription]:
        """Records the beginning and the end of a watch. Raises `AuditUnavailableError`."""
        async with (
            self._auditor.audit_watch(record),
            self._store.watch(prefix, is_visible, is_idle=is_idle) as subscription,
        ):
            yield subscription
