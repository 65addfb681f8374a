"""The audit records of a batch."""

import time
from collections.abc import Iterator, Sequence
from typing import overload

from kekd_server.access.audit.audit_record import AuditRecord, format_reads
from kekd_server.access.batch_decision import BatchDecision
from kekd_server.model.errors import KekdError
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.stored_envelope import ReadResult


class BatchRecords(Sequence[AuditRecord]):
    """Makes the records only when they are needed: a batch of reads that all succeeded needs just
    its lines.
    """

    __slots__ = ("_decision", "_etags", "_records", "_started_at")

    def __init__(self, decision: BatchDecision) -> None:
        self._decision = decision
        self._records: list[AuditRecord] | None = None
        self._etags: Sequence[str] | None = None
        self._started_at = time.monotonic()

    def set_results(self, results: Sequence[ReadResult | WriteResult | KekdError]) -> None:
        for record, result in zip(self, results, strict=True):
            if isinstance(result, KekdError):
                record.set_outcome(result)
            else:
                record.etag_after = result.etag

    def set_reads(self, results: Sequence[ReadResult | KekdError]) -> None:
        etags = [result.etag for result in results if not isinstance(result, KekdError)]
        if len(etags) == len(results):
            self._etags = etags
        else:
            self.set_results(results)

    def read_lines(self) -> list[str] | None:
        """Returns the lines of a batch that read every index, and None for any other."""
        if self._etags is None:
            return None
        return format_reads(self._decision, self._etags, self._started_at)

    @overload
    def __getitem__(self, position: int) -> AuditRecord: ...
    @overload
    def __getitem__(self, position: slice) -> list[AuditRecord]: ...
    def __getitem__(self, position: int | slice) -> AuditRecord | list[AuditRecord]:
        return self._all()[position]

    def __iter__(self) -> Iterator[AuditRecord]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._decision.indexes)

    def _all(self) -> list[AuditRecord]:
        if self._records is None:
            self._records = [
                AuditRecord(decision, self._started_at) for decision in self._decision.decisions()
            ]
        return self._records
