"""Requests to one S3 object, each conditional on the version that was read."""

from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from kekd_server.storage.driver import MAX_RECORD_BYTES
from kekd_server.storage.s3.client import PutResult, S3Client, StoredObject
from kekd_server.storage.s3.errors import RequestError, S3Error

_CLOCK_RESOLUTION: Final = 2.0
"""Seconds by which an age may be wrong, as S3's times are whole seconds."""


class PreconditionFailedError(Exception):
    """The condition didn't hold: the request changed nothing."""


class AmbiguousResponseError(Exception):
    """S3 may have applied the request or not. Its cause is the error of the request."""


class ObjectVersion(NamedTuple):
    """The state of an object when it was read."""

    stored: StoredObject

    @property
    def etag(self) -> str:
        return self.stored.etag

    def is_mine(self, write_id: str) -> bool:
        """Whether the write with that id stored it."""
        return self.stored.write_id == write_id

    def is_older_than(self, seconds: float) -> bool:
        """By S3's clock. False if S3 doesn't report the age."""
        return _age_of(self.stored) > seconds + _CLOCK_RESOLUTION

    def is_same(self, other: "ObjectVersion | None") -> bool:
        """Whether the object wasn't written in between."""
        return other is not None and _identity(self.stored) == _identity(other.stored)


class S3Object:
    """Its methods raise `RequestError`, and the errors of botocore for credentials."""

    def __init__(self, client: S3Client, key: str) -> None:
        self._client = client
        self._key = key

    def read(self) -> ObjectVersion | None:
        """Returns the current version; None if there is none."""
        stored = self._client.find_object(self._key, MAX_RECORD_BYTES)
        return ObjectVersion(stored) if stored else None

    def put(self, record: bytes, metadata: Mapping[str, str], if_etag: str | None) -> PutResult:
        """Replaces the version with that etag, or stores the first one if it is None. Raises
        `PreconditionFailedError` and `AmbiguousResponseError`.
        """
        condition = {"if-match": f'"{if_etag}"'} if if_etag else {"if-none-match": "*"}
        try:
            return self._client.put_object(self._key, record, {**metadata, **condition})
        except RequestError as error:
            raise _write_error(error) from error

    def delete(self, if_etag: str) -> str:
        """Removes the version with that etag. Returns the version id of the deletion; empty if S3
        doesn't keep what it deleted. Raises `PreconditionFailedError` and `AmbiguousResponseError`.
        """
        try:
            return self._client.delete_object(self._key, {"if-match": f'"{if_etag}"'})
        except RequestError as error:
            raise _write_error(error) from error


def _write_error(error: RequestError) -> Exception:
    if isinstance(error, S3Error) and (error.is_refusal or error.is_missing):
        return PreconditionFailedError()
    return AmbiguousResponseError() if error.may_be_applied else error


def _identity(stored: StoredObject) -> tuple[str, str, str]:
    return stored.etag, stored.write_id, stored.modified


def _age_of(stored: StoredObject) -> float:
    if not stored.date:
        return 0.0
    try:
        age: timedelta = parsedate_to_datetime(stored.date) - parsedate_to_datetime(stored.modified)
    except (ValueError, TypeError, OverflowError):  # no HTTP dates
        return 0.0
    return age.total_seconds()
