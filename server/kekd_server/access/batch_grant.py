"""Permission to call one method on some indexes of a batch."""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias, TypeVar

from kekd_common.policy import Method
from kekd_server.access.audit_record import AuditRecord
from kekd_server.access.audited_store import AuditedStore, StoreWriter
from kekd_server.access.decision import AccessDecision
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.push import Push
from kekd_server.storage.stored_envelope import FindPrepared, PreparedEnvelope, StoredEnvelope
from kekd_server.storage.write_outcomes import IsAbandoned

T = TypeVar("T")
ReadResult: TypeAlias = StoredEnvelope | PreparedEnvelope
Result = TypeVar("Result", bound=ReadResult | WriteResult | KekdError)


class BatchGrant:
    """Acts on the allowed entries, and answers the others with their `AccessDeniedError`."""

    method: ClassVar[Method]

    def __init__(
        self,
        request: RequestContext,
        decisions: Sequence[AccessDecision],
        store: AuditedStore,
        names: Sequence[IndexName],
    ) -> None:
        self._request = request
        self.store_name = store.name
        self._store = store
        self._names = names
        self._records = [AuditRecord(decision) for decision in decisions]

    def _allowed(self, entries: Sequence[T]) -> list[T]:
        """Returns the entries of the allowed indexes."""
        pairs = zip(entries, self._records, strict=True)
        return [entry for entry, record in pairs if not record.decision.is_denied]

    def _merge_results(self, results: Sequence[Result]) -> list[Result | KekdError]:
        """Returns the results of the allowed entries and the denials of the others, in the order of
        the batch.
        """
        remaining = iter(results)
        merged: list[Result | KekdError] = []
        for record in self._records:
            result = record.decision.denial or next(remaining)
            if isinstance(result, KekdError):
                record.set_outcome(result)
            else:
                record.etag_after = result.etag
            merged.append(result)
        return merged


class BatchReadGrant(BatchGrant):
    method = "read"

    async def get_many(self, find_prepared: FindPrepared) -> list[ReadResult | KekdError]:
        request = self._request
        async with self._store.read(self._records) as store:
            found: list[ReadResult | KekdError] = []
            if names := self._allowed(self._names):
                found = await store.get_many(
                    names,
                    find_prepared=find_prepared,
                    owner=request.principal.identity,
                    deadline=request.deadline,
                )
            return self._merge_results(found)


class BatchPushGrant(BatchGrant):
    method = "push"

    async def push_many(self, pushes: Sequence[Push]) -> list[WriteResult | KekdError]:
        """Expects one push for each name of the batch."""
        named = zip(self._names, pushes, strict=True)
        allowed = self._allowed([push._replace(name=name) for name, push in named])

        async def push_many(
            store: StoreWriter, is_abandoned: IsAbandoned
        ) -> list[WriteResult | KekdError]:
            if not allowed:
                return self._merge_results([])
            written = await store.put_many(
                allowed,
                owner=self._request.principal.identity,
                is_abandoned=is_abandoned,
            )
            self._record_previous_etags(written)
            return self._merge_results(written)

        return await self._store.write(self._request, self._records, push_many)

    def _record_previous_etags(self, written: Sequence[WriteResult | KekdError]) -> None:
        for record, result in zip(self._allowed(self._records), written, strict=True):
            if isinstance(result, WriteResult):
                record.etag_before = result.previous_etag
