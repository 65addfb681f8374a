"""One write to a keystore folder, applied at most once by all daemons that share the folder."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from kekd_server.model.errors import EnvelopeExistsError, EtagMismatchError, OutcomeUnknownError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable
from kekd_server.storage.disk.write_ledger import Entry, Outcome, WriteLedger
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.write_attempt import WriteAttempt


class RecordedWrite:
    """While it is entered, you hold the lock whose file is `lock`.

    A retry that is refused is recorded too: its earlier attempt may still wait for the lock, and
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
            self._ledger.add(self._attempt.id, Outcome.EXISTS)
        elif isinstance(error, EtagMismatchError):
            self._ledger.add(self._attempt.id, Outcome.MISMATCH)

    def find_earlier(
        self, etag: str, read_etag: Callable[[IndexName], str | None]
    ) -> WriteResult | None:
        """The result of an earlier attempt; None if none was applied. `etag` is the one that the
        write leaves, empty if it leaves no record.

        Raises what the earlier attempt raised, and `OutcomeUnknownError`.
        """
        entry = self._ledger.find(self._attempt.id)
        match entry:
            case Entry(Outcome.APPLIED):
                return entry.written
            case Entry(Outcome.EXISTS):
                raise EnvelopeExistsError(self._name.value)
            case Entry(Outcome.MISMATCH):
                raise EtagMismatchError(self._name.value)
            case None if not self._attempt.is_retry or self._ledger.is_complete:
                return None
        current = read_etag(self._name)
        if (current or "") == etag:
            written = entry.written if entry else WriteResult(etag, None)
            self._ledger.add(self._attempt.id, Outcome.APPLIED, written)
            return written
        if entry and entry.is_last and entry.written.before == current:
            return None  # it was not applied
        raise OutcomeUnknownError(self._name.value)

    def applying(self, written: WriteResult) -> durable.Applying:
        return self._ledger.applying(self._attempt.id, written)

    def add_nothing(self) -> None:
        """The write found nothing to do, and never does anything from then on."""
        self._ledger.add(self._attempt.id, Outcome.APPLIED)
