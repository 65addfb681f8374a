"""One write to an S3 object, applied at most once even where S3's answers are lost."""

import time
from functools import partial
from typing import Final

from kekd_server.model.errors import (
    EnvelopeExistsError,
    EtagMismatchError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.s3.object import RefusedError, S3Object, UnansweredError, Version
from kekd_server.storage.write_attempt import RETENTION, WriteAttempt

_MAX_ROUNDS: Final = 8
"""How often an unconditional write starts over because another writer was faster."""


class S3Write:
    """Every request is conditional on the version that was read before, and carries the attempt's
    id as the object's mark. So a request that was lost is never repeated blindly: the mark shows
    that it was applied, the version from before shows that it wasn't, and any other version means
    that the outcome is unknown.

    One case is left open: an attempt that another daemon received and hasn't begun yet, when the
    client gave up on it, runs there on its own once its retry was replaced by another writer.
    """

    def __init__(self, target: S3Object, name: IndexName, attempt: WriteAttempt) -> None:
        self._object = target
        self._name = name
        self._attempt = attempt

    def create(self, record: bytes) -> str:
        if self._attempt.is_retry:
            earlier = self._read_for_retry()
            if self._is_mine(earlier):
                return earlier.etag
            raise EnvelopeExistsError(self._name.value)
        start = time.monotonic()
        for _ in range(_MAX_ROUNDS):
            try:
                return self._object.put(record, self._attempt.id, None)
            except RefusedError:
                is_refused = True
            except UnansweredError:
                is_refused = False
            current = self._object.read()
            if current and self._is_mine(current):
                return current.etag
            if current and (is_refused or current.is_older_than(time.monotonic() - start)):
                raise EnvelopeExistsError(self._name.value)
            if not is_refused:
                raise self._outcome_unknown()
        raise self._race_lost()

    def put(self, record: bytes, if_etag: str | None) -> WriteResult:
        read = partial(self._read_for_retry, if_etag)
        for _ in range(_MAX_ROUNDS):
            current = read() if self._attempt.is_retry else self._object.read()
            if current and self._is_mine(current):
                return WriteResult(current.etag, None)
            before = current.etag if current else None
            if if_etag is not None and before != if_etag:
                raise EtagMismatchError(self._name.value)
            try:
                return WriteResult(self._object.put(record, self._attempt.id, before), before)
            except RefusedError:
                continue
            except UnansweredError as lost:
                now = self._object.read()
                if now and self._is_mine(now):
                    return WriteResult(now.etag, before)
                if now is None or not now.is_same(current):
                    raise self._outcome_unknown() from lost.__cause__
        raise self._race_lost()

    def delete(self, if_etag: str | None) -> str | None:
        for _ in range(_MAX_ROUNDS):
            current = self._object.read()
            if current is None:
                return None
            if self._attempt.is_retry and not current.is_older_than(RETENTION):
                raise self._outcome_unknown()
            if if_etag is not None and current.etag != if_etag:
                raise EtagMismatchError(self._name.value)
            try:
                self._object.delete(current.etag)
            except RefusedError:
                continue
            except UnansweredError as lost:
                now = self._object.read()
                if now and now.is_same(current):
                    continue
                if now:
                    raise self._outcome_unknown() from lost.__cause__
            return current.etag
        raise self._race_lost()

    def _read_for_retry(self, if_etag: str | None = None) -> Version:
        """The version that the earlier attempt left; or one that shows that it wasn't applied: the
        version that it was to replace, or one from before it.
        """
        current = self._object.read()
        if current and (
            self._is_mine(current) or current.etag == if_etag or current.is_older_than(RETENTION)
        ):
            return current
        raise self._outcome_unknown()

    def _is_mine(self, version: Version) -> bool:
        return version.mark == self._attempt.id

    def _outcome_unknown(self) -> OutcomeUnknownError:
        return OutcomeUnknownError(self._name.value)

    def _race_lost(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the write of index '{self._name.value}' was not applied: other writers replaced the"
            f" envelope {_MAX_ROUNDS} times meanwhile; try again."
        )
