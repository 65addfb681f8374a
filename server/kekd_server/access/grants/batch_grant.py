"""Permission to call one method on some indexes of a batch."""

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from kekd_common.policy import Method
from kekd_server.access.audit.audited_store import AuditedStore, StoreWriter
from kekd_server.access.audit.batch_records import BatchRecords
from kekd_server.access.batch_decision import BatchDecision
from kekd_server.model.errors import KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.stored_envelope import FindPrepared, ReadResult
from kekd_server.storage.writes.outcomes import IsAbandoned
from kekd_server.storage.writes.push import Push

T = TypeVar("T")
Result = TypeVar("Result", bound=ReadResult | WriteResult | KekdError)


class BatchGrant:
    """Acts on the allowed entries, and answers the others with their `AccessDeniedError`."""

    method: ClassVar[Method]

    def __init__(
        self, decision: BatchDecision, store: AuditedStore, names: Sequence[IndexName]
    ) -> None:
        self._request = decision.request
        self._decision = decision
        self.store_name = store.name
        self._store = store
        self._names = names
        self._records = BatchRecords(decision)

    def _allowed(self, entries: Sequence[T]) -> list[T]:
        """Returns the entries of the allowed indexes."""
        pairs = zip(entries, self._decision.rules, strict=True)
        return [entry for entry, rule in pairs if rule is not None]

    def _merge_results(self, results: Sequence[Result]) -> list[Result | KekdError]:
        """Returns the results of the allowed entries and the denials of the others, in the order of
        the batch.
        """
        remaining = iter(results)
        return [
            self._decision.denial_of(index) if rule is None else next(remaining)
            for index, rule in zip(self._decision.indexes, self._decision.rules, strict=True)
        ]


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
            results = self._merge_results(found)
            self._records.set_reads(results)
            return results


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
                return self._record_results([])
            written = await store.put_many(
                allowed,
                owner=self._request.principal.identity,
                is_abandoned=is_abandoned,
            )
            self._record_previous_etags(written)
            return self._record_results(written)

        return await self._store.write(self._request, self._records, push_many)

    def _record_results(
        self, written: Sequence[WriteResult | KekdError]
    ) -> list[WriteResult | KekdError]:
        results = self._merge_results(written)
        self._records.set_results(results)
        return results

    def _record_previous_etags(self, written: Sequence[WriteResult | KekdError]) -> None:
        for record, result in zip(self._allowed(self._records), written, strict=True):
            if isinstance(result, WriteResult):
                record.etag_before = result.previous_etag
