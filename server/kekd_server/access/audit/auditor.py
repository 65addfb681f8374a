"""Decides when the audit records of an operation are written, and what happens if they can't be."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Generic, Literal, TypeVar

from kekd_server.access.audit.audit_log import AuditLog
from kekd_server.access.audit.audit_record import AuditRecord, format_lines, format_repeated_read
from kekd_server.access.audit.batch_records import BatchRecords
from kekd_server.access.audit.denial_throttle import DenialThrottle
from kekd_server.access.decision import AccessDecision
from kekd_server.access.repetition import Repetition
from kekd_server.model.errors import KekdError

T = TypeVar("T")
OnFailure = Literal["deny", "allow"]
Records = Sequence[AuditRecord]


class Auditor:
    """Writes are audited before they run and when they finish. Reads are audited before the
    response is sent.

    If the audit log can't be written, writes fail and reads succeed. `on_failure` overrides both.
    Failing to audit the end of a completed write doesn't undo it.
    """

    def __init__(self, log: AuditLog | None = None, on_failure: OnFailure | None = None) -> None:
        self._log = log
        self._throttle = DenialThrottle(log.enqueue) if log else None
        self._require_for_writes = on_failure != "allow"
        self._require_for_reads = on_failure == "deny"
        self.records_reads_later = not (log and self._require_for_reads)
        """Whether reads don't wait for their lines."""

    def audit_read(self, records: Records, store: T) -> AbstractAsyncContextManager[T]:
        """Passes the store to a read, then records how it ended.

        Raises `AuditUnavailableError`.
        """
        return _OutcomeRecorder(self, records, store, require_audit=self._require_for_reads)

    @asynccontextmanager
    async def audit_watch(self, record: AuditRecord) -> AsyncIterator[None]:
        """Records the beginning and the end of a watch. Raises `AuditUnavailableError`."""
        await self._begin([record], require_audit=self._require_for_reads)
        async with _OutcomeRecorder(self, [record], None, require_audit=False):
            yield

    async def record_write_start(self, records: Records) -> None:
        """Records that a write is about to run. Raises `AuditUnavailableError`."""
        await self._begin(records, require_audit=self._require_for_writes)

    async def run_write(self, records: Records, work: Callable[[], Awaitable[T]]) -> T:
        """Runs a write, then records how it ended."""
        async with _OutcomeRecorder(self, records, None, require_audit=False):
            return await work()

    def record_denied(self, decision: AccessDecision, error: KekdError) -> None:
        """Records a call that was denied, with the error that says why."""
        self.record_failed([AuditRecord(decision)], error)

    def flush(self) -> None:
        """Writes the pending summaries of denials."""
        if self._throttle:
            self._throttle.flush()

    def record_failed(self, records: Records, error: BaseException) -> None:
        """Records that an operation failed."""
        if self._log is None:
            return
        for record in records:
            record.set_outcome(error)
        self._log.enqueue(self._end_lines(records))

    def enqueue_end(self, records: Records) -> None:
        """Records that an operation succeeded, some milliseconds later."""
        if self._log:
            self._log.enqueue(self._end_lines(records))

    def enqueue_repeated_read(
        self, repetition: Repetition, store: str, rule: str | None, index: str, etag: str
    ) -> None:
        """Records a read that succeeded, some milliseconds later."""
        if self._log:
            self._log.enqueue((format_repeated_read(repetition, store, rule, index, etag),))

    async def write_end(self, records: Records) -> None:
        """Records that an operation succeeded. Raises `AuditUnavailableError`."""
        if self._log and (ended := self._end_lines(records)):
            await self._log.write_and_wait(ended)

    async def _begin(self, records: Records, *, require_audit: bool) -> None:
        if self._log is None:
            return
        allowed = format_lines(
            (record for record in records if not record.decision.is_denied), "begin"
        )
        if not allowed or not require_audit:
            self._log.enqueue(allowed)
            return
        try:
            await self._log.write_and_wait(allowed)
        except BaseException as error:
            self.record_failed(records, error)
            raise

    def _end_lines(self, records: Records) -> list[str]:
        """Returns no lines for denials beyond a rate."""
        if isinstance(records, BatchRecords) and (lines := records.read_lines()) is not None:
            return lines
        throttle = self._throttle
        # A list, which takes less time than a generator.
        admitted = [
            record
            for record in _merge_denials(records)
            if not record.decision.is_denied or (throttle and throttle.admit(record))
        ]
        return format_lines(admitted, "end")


def _merge_denials(records: Records) -> Records:
    """Returns the records that get a line. A batch that is denied as a whole gets only one, whose
    record counts the denials.
    """
    if len(records) > 1 and all(record.decision.is_denied for record in records):
        records[0].denials = len(records)
        return records[:1]
    return records


class _OutcomeRecorder(Generic[T]):
    """Records how the operation in its body ended."""

    # A class, because a generator takes longer.
    __slots__ = ("_auditor", "_records", "_require_audit", "_store")

    def __init__(
        self, auditor: Auditor, records: Records, store: T, *, require_audit: bool
    ) -> None:
        self._auditor = auditor
        self._records = records
        self._store = store
        self._require_audit = require_audit

    async def __aenter__(self) -> T:
        return self._store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            self._auditor.record_failed(self._records, error)
        elif self._require_audit:
            await self._auditor.write_end(self._records)
        else:
            self._auditor.enqueue_end(self._records)
