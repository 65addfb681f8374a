"""One write to a keystore folder, applied at most once by all daemons that share the folder."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from kekd_server.errors import EnvelopeExistsError, EtagMismatchError, OutcomeUnknownError
from kekd_server.names import IndexName
from kekd_server.storage import durable
from kekd_server.storage.driver import Written
from kekd_server.storage.write_attempt import WriteAttempt
from kekd_server.storage.write_ledger import NOTHING, Outcome, WriteLedger


class RecordedWrite:
    """While it is entered, you hold the lock whose file is `lock`. Without an attempt, nothing is
    looked up or recorded.

    A retry that is refused is recorded too: its earlier attempt may still wait for the lock, and
    must not be applied after its caller got the refusal.
    """

    def __init__(self, lock: int, name: IndexName, attempt: WriteAttempt | None) -> None:
        self._name = name
        self._attempt = attempt
        self._ledger = WriteLedger(lock) if attempt else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, EnvelopeExistsError):
            self._add_for_retry(Outcome.EXISTS)
        elif isinstance(error, EtagMismatchError):
            self._add_for_retry(Outcome.MISMATCH)

    def find_earlier(
        self, etag: str, read_etag: Callable[[IndexName], str | None]
    ) -> Written | None:
        """The result of an earlier attempt; None if none was applied. `etag` is the one that the
        write leaves, empty if it leaves no record.

        Raises what the earlier attempt raised, and `OutcomeUnknownError`.
        """
        if self._attempt is None or self._ledger is None:
            return None
        match self._ledger.find(self._attempt.id):
            case (Outcome.APPLIED, written):
                return written
            case (Outcome.EXISTS, _):
                raise EnvelopeExistsError(self._name.value)
            case (Outcome.MISMATCH, _):
                raise EtagMismatchError(self._name.value)
            case None if not self._attempt.is_retry or self._ledger.is_complete:
                return None
        if (read_etag(self._name) or "") != etag:
            raise OutcomeUnknownError(self._name.value)
        written = Written(etag, None)
        self._ledger.add(self._attempt.id, Outcome.APPLIED, written)
        return written

    def applying(self, written: Written) -> durable.Applying:
        if self._attempt is None or self._ledger is None:
            return durable.NOT_RECORDED
        return self._ledger.applying(self._attempt.id, written)

    def add_nothing(self) -> None:
        """The write found nothing to do."""
        self._add_for_retry(Outcome.APPLIED)

    def _add_for_retry(self, outcome: Outcome) -> None:
        if self._attempt and self._ledger and self._attempt.is_retry:
            self._ledger.add(self._attempt.id, outcome, NOTHING)
