"""Permission to call one method on one index of a store."""

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

from kekd_common.policy import Method
from kekd_schema import Envelope
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit.audit_record import AuditRecord
from kekd_server.access.audit.audited_store import AuditedStore, StoreWriter
from kekd_server.access.decision import AccessDecision
from kekd_server.access.grants.repeat_grant import RepeatGrant
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import StoredRecord
from kekd_server.storage.history.version_listing import VersionListing
from kekd_server.storage.stored_envelope import StoredEnvelope
from kekd_server.storage.writes.attempt import WriteAttempt

T = TypeVar("T")


class Grant:
    """The only way to a store: the authorizer hands out stores inside grants alone. A grant acts on
    the index that it was made for, and audits what it does.
    """

    method: ClassVar[Method]

    __slots__ = ("_name", "_record", "_request", "_store")

    def __init__(self, decision: AccessDecision, store: AuditedStore, name: IndexName) -> None:
        """Raises `AccessDeniedError` if the decision denies the call."""
        decision.require_allowed()
        self._request = decision.request
        self._store = store
        self._name = name
        self._record = AuditRecord(decision)

    async def _write(self, write: Callable[[StoreWriter], Awaitable[T]]) -> T:
        return await self._store.write(
            self._request, [self._record], lambda store, _is_abandoned: write(store)
        )


class ReadGrant(Grant):
    method = "read"
    __slots__ = ()

    async def get(self) -> StoredEnvelope:
        request = self._request
        async with self._store.read((self._record,)) as store:
            stored = await store.get(
                self._name, owner=request.principal.identity, deadline=request.deadline
            )
            self._record.etag_after = stored.etag
            return stored

    async def get_version(self, version_id: str) -> StoredEnvelope:
        request = self._request
        self._record.version_id = version_id
        async with self._store.read((self._record,)) as store:
            stored = await store.versions.get(
                *(self._name, version_id),
                owner=request.principal.identity,
                deadline=request.deadline,
            )
            self._record.etag_after = stored.etag
            return stored

    async def list_versions(
        self, after: str, limit: int, *, with_envelopes: bool
    ) -> VersionListing:
        """Returns at most `limit` versions after the one with the id `after`, newest first. With
        their envelopes, it may return fewer, but at least one.
        """
        request = self._request
        async with self._store.read((self._record,)) as store:
            return await store.versions.list(
                *(self._name, after, limit),
                with_envelopes=with_envelopes,
                owner=request.principal.identity,
                deadline=request.deadline,
            )

    def make_repeatable(self, policy: AccessPolicy, stored: StoredRecord) -> RepeatGrant | None:
        """See `Authorizer.make_repeatable`."""
        if stored.proof is None:
            return None
        return RepeatGrant(
            *(policy, self._record, self._store, self._name),
            etag=stored.etag,
            proof=stored.proof,
        )


class CreateGrant(Grant):
    method = "create"
    __slots__ = ()

    async def create(self, envelope: Envelope, *, attempt: WriteAttempt | None) -> str:
        """Inserts an envelope; returns its etag."""

        async def create(store: StoreWriter) -> str:
            owner = self._request.principal.identity
            etag = await store.create(self._name, envelope, owner=owner, attempt=attempt)
            self._record.etag_after = etag
            return etag

        return await self._write(create)

    async def undelete(self, *, attempt: WriteAttempt | None) -> str:
        """Inserts the last envelope of a deleted index; returns its etag."""

        async def undelete(store: StoreWriter) -> str:
            owner = self._request.principal.identity
            etag = await store.versions.undelete(self._name, owner=owner, attempt=attempt)
            self._record.etag_after = etag
            return etag

        return await self._write(undelete)


class PushGrant(Grant):
    method = "push"
    __slots__ = ()

    async def restore(
        self, version_id: str, *, if_etag: str | None, attempt: WriteAttempt | None
    ) -> str:
        """Inserts or replaces an envelope with that of a version; returns its etag."""
        self._record.version_id = version_id

        async def restore(store: StoreWriter) -> str:
            owner = self._request.principal.identity
            written = await store.versions.restore(
                self._name, version_id, if_etag=if_etag, owner=owner, attempt=attempt
            )
            self._record.etag_after, self._record.etag_before = written
            return written.etag

        return await self._write(restore)

    async def push(
        self, envelope: Envelope, *, if_etag: str | None, attempt: WriteAttempt | None
    ) -> str:
        """Inserts or replaces an envelope; returns its etag."""

        async def push(store: StoreWriter) -> str:
            owner = self._request.principal.identity
            written = await store.put(
                self._name, envelope, if_etag=if_etag, owner=owner, attempt=attempt
            )
            self._record.etag_after, self._record.etag_before = written
            return written.etag

        return await self._write(push)


class _BaseDeleteGrant(Grant):
    __slots__ = ()

    async def _delete(self, if_etag: str | None, attempt: WriteAttempt | None) -> bool:
        async def delete(store: StoreWriter) -> bool:
            owner = self._request.principal.identity
            etag = await store.delete(self._name, if_etag=if_etag, owner=owner, attempt=attempt)
            self._record.etag_before = etag
            return etag is not None

        return await self._write(delete)


class DeleteGrant(_BaseDeleteGrant):
    method = "delete"
    __slots__ = ()

    async def delete(self, *, attempt: WriteAttempt | None) -> bool:
        """Removes the envelope; returns whether there was one."""
        return await self._delete(None, attempt)


class ConditionalDeleteGrant(_BaseDeleteGrant):
    method = "delete-if-match"
    __slots__ = ()

    async def delete(self, *, if_etag: str, attempt: WriteAttempt | None) -> bool:
        """Removes the envelope with this etag; returns whether there was one."""
        return await self._delete(if_etag, attempt)
