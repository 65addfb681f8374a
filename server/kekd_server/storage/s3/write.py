"""One write to an S3 object, applied at most once even if S3's responses are lost."""

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
from kekd_server.storage.history.version import Origin
from kekd_server.storage.s3.client import WRITE_ID
from kekd_server.storage.s3.history.holds import S3Holds
from kekd_server.storage.s3.history.record_history import S3RecordHistory
from kekd_server.storage.s3.history.version_metadata import headers_of
from kekd_server.storage.s3.object import (
    AmbiguousResponseError,
    ObjectVersion,
    PreconditionFailedError,
    S3Object,
)
from kekd_server.storage.writes.attempt import RETENTION, WriteAttempt

_MAX_ROUNDS: Final = 8
"""How often a write starts over because another writer was faster."""


class S3Write:
    """Every request is conditional on the version that was read before, and stores the attempt's
    id with the object. So a request whose response was lost is never repeated blindly. If the
    object has the id, the request was applied. If it is still the previous version, it was not. If
    it is any other version, the outcome is unknown.

    One case remains: another daemon received an attempt and hasn't started it when the client gives
    up and retries. If another writer then replaces the result of the retry, that daemon applies the
    first attempt again.

    The check for a hold and the write are two requests. So a write that was already running when
    the hold is placed may still be applied.
    """

    def __init__(  # noqa: PLR0913
        self,
        target: S3Object,
        name: IndexName,
        attempt: WriteAttempt,
        origin: Origin,
        history: S3RecordHistory,
        *,
        holds: S3Holds,
    ) -> None:
        self._object = target
        self._name = name
        self._attempt = attempt
        self._origin = origin
        self._history = history
        self._holds = holds

    def create(self, record: bytes) -> str:
        if self._attempt.is_retry:
            earlier = self._read_for_retry()
            if self._is_mine(earlier):
                return self._complete_earlier(earlier)
            raise EnvelopeExistsError(self._name.value)
        start = time.monotonic()
        for _ in range(_MAX_ROUNDS):
            try:
                return self._put(record, None)
            except PreconditionFailedError:
                is_refused = True
            except AmbiguousResponseError:
                is_refused = False
            current = self._object.read()
            if current and self._is_mine(current):
                return self._complete_earlier(current)
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
                return WriteResult(self._complete_earlier(current), None)
            previous_etag = current.etag if current else None
            if if_etag is not None and previous_etag != if_etag:
                raise EtagMismatchError(self._name.value)
            try:
                return WriteResult(self._put(record, current), previous_etag)
            except PreconditionFailedError:
                continue
            except AmbiguousResponseError as error:
                now = self._object.read()
                if now and self._is_mine(now):
                    return WriteResult(self._complete_earlier(now), previous_etag)
                if now is None or not now.is_same(current):
                    raise self._outcome_unknown() from error.__cause__
        raise self._race_lost()

    def delete(self, if_etag: str | None) -> str | None:
        tried_etag, version = None, None
        for _ in range(_MAX_ROUNDS):
            current = self._object.read()
            if current is None:
                if tried_etag and version:
                    self._history.note_deletion(version, None)
                return tried_etag
            if self._attempt.is_retry and not current.is_older_than(RETENTION):
                raise self._outcome_unknown()
            if if_etag is not None and current.etag != if_etag:
                raise EtagMismatchError(self._name.value)
            self._holds.require_free(self._name)
            version = self._history.prepare(current.stored, self._origin)
            deletion_id = None
            try:
                deletion_id = self._object.delete(current.etag)
            except PreconditionFailedError:
                continue
            except AmbiguousResponseError as error:
                now = self._object.read()
                if now and now.is_same(current):
                    tried_etag = current.etag  # S3 may still apply the request
                    continue
                if now:
                    raise self._outcome_unknown() from error.__cause__
            self._history.note_deletion(version, deletion_id)
            return current.etag
        raise self._race_lost()

    def _put(self, record: bytes, current: ObjectVersion | None) -> str:
        self._holds.require_free(self._name)
        version = self._history.prepare(current.stored if current else None, self._origin)
        metadata = {WRITE_ID: self._attempt.id, **headers_of(version.file)}
        result = self._object.put(record, metadata, current.etag if current else None)
        self._history.complete(version, record, result)
        return result.etag

    def _complete_earlier(self, earlier: ObjectVersion) -> str:
        self._history.complete_earlier(earlier.stored)
        return earlier.etag

    def _read_for_retry(self, if_etag: str | None = None) -> ObjectVersion:
        """Returns the version that the earlier attempt stored, or one that shows that it was not
        applied: the version that it should replace, or one that is older than the attempt.
        """
        current = self._object.read()
        if current and (
            self._is_mine(current) or current.etag == if_etag or current.is_older_than(RETENTION)
        ):
            return current
        raise self._outcome_unknown()

    def _is_mine(self, version: ObjectVersion) -> bool:
        return version.is_mine(self._attempt.id)

    def _outcome_unknown(self) -> OutcomeUnknownError:
        return OutcomeUnknownError(self._name.value)

    def _race_lost(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the write of index '{self._name.value}' was not applied: S3 refused it {_MAX_ROUNDS}"
            " times; other writers replaced the envelope in the meantime, or the S3 server does not"
            " honour conditional writes; retry"
        )
