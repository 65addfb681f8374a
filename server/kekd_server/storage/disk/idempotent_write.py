"""One write to a keystore folder, applied at most once by all daemons that share the folder."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from kekd_server.model.errors import EnvelopeExistsError, EtagMismatchError, OutcomeUnknownError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk.write_ledger import Entry, EntryStatus, WriteLedger
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.writes.attempt import WriteAttempt


class IdempotentWrite:
    """Use it only while you hold the lock whose file is `lock`.

    It also records a retry that is refused: an earlier attempt may still wait for the lock, and
    must not be applied after its caller got the refusal.
    """

    def __init__(self, lock: int, name: IndexName, attempt: WriteAttempt) -> None:
        self._name = name
        self._attempt = attempt
        self._ledger = WriteLedger(lock, name.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not self._attempt.is_retry:
            return
        if isinstance(error, EnvelopeExistsError):
            self._ledger.add(self._attempt.id, EntryStatus.EXISTS)
        elif isinstance(error, EtagMismatchError):
            self._ledger.add(self._attempt.id, EntryStatus.MISMATCH)

    def find_previous_result(
        self, etag: str, read_etag: Callable[[IndexName], str | None]
    ) -> WriteResult | None:
        """Returns the result of an earlier attempt; None if none was applied. `etag` is the etag
        after the write, empty for a removal.

        Raises the error of the earlier attempt, or `OutcomeUnknownError`.
        """
        entry = self._ledger.find(self._attempt.id)
        match entry:
            case Entry(EntryStatus.APPLIED):
                return entry.result
            case Entry(EntryStatus.EXISTS):
                raise EnvelopeExistsError(self._name.value)
            case Entry(EntryStatus.MISMATCH):
                raise EtagMismatchError(self._name.value)
            case None if not self._attempt.is_retry or self._ledger.is_complete:
                return None
        current = read_etag(self._name)
        if (current or "") == etag:
            result = entry.result if entry else WriteResult(etag, None)
            self._ledger.add(self._attempt.id, EntryStatus.APPLIED, result)
            return result
        if entry and entry.is_last and entry.result.previous_etag == current:
            return None  # it was not applied
        raise OutcomeUnknownError(self._name.value)

    @property
    def attempt_id(self) -> str:
        return self._attempt.id

    @property
    def last_applied(self) -> str:
        """See `WriteLedger.last_applied`."""
        return self._ledger.last_applied

    def commit(self, result: WriteResult) -> AbstractContextManager[bool]:
        """See `WriteLedger.commit`."""
        return self._ledger.commit(self._attempt.id, result)

    def record_no_change(self) -> None:
        """Records that the write found nothing to do, so that a later attempt does nothing."""
        self._ledger.add(self._attempt.id, EntryStatus.APPLIED)
