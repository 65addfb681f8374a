"""Requests to one S3 object. A request is repeated only if S3 certainly didn't apply it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import tenacity
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    SSLError,
)

from kekd_server.storage.driver import MAX_RECORD_BYTES
from kekd_server.storage.s3.errors import CONFLICT, SERVER_ERROR, is_missing, status_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")

_WRITE_ID: Final = "kekd-write"
"""The object metadata that names the write which stored the object."""
_UNSENT_ERRORS: Final = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_PRECONDITION_FAILED: Final = 412
_TOO_MANY_REQUESTS: Final = 429
_SERVICE_UNAVAILABLE: Final = 503
_NOT_APPLIED: Final = {CONFLICT, _TOO_MANY_REQUESTS, _SERVICE_UNAVAILABLE}
"""S3 didn't apply the request, and may apply it if it is repeated."""
_CLOCK_RESOLUTION: Final = 2.0
"""Seconds by which an age may be wrong, as S3's times are whole seconds."""
_MAX_ATTEMPTS: Final = 2
"""Few, as clients retry too: they learn within their default timeout that S3 is down."""
_MAX_CONFLICTS: Final = 5
"""Attempts after a 409, which S3 answers when two conditional writes of one key cross."""


class PreconditionFailedError(Exception):
    """The condition didn't hold: the request changed nothing."""


class AmbiguousResponseError(Exception):
    """S3 may have applied the request or not. Its cause is what botocore raised."""


class ObjectVersion(NamedTuple):
    """The state of an object when it was read."""

    etag: str
    write_id: str
    """The id of the write that stored it; empty if another program did."""
    modified: datetime
    age: float
    """Seconds since it was stored, by S3's clock; 0 if S3 doesn't report it."""

    def is_older_than(self, seconds: float) -> bool:
        return self.age > seconds + _CLOCK_RESOLUTION

    def is_same(self, other: "ObjectVersion | None") -> bool:
        """Whether the object wasn't written in between."""
        return other is not None and self[:3] == other[:3]


class S3Object:
    """Reads, stores and deletes one object. Its etags have no quotes."""

    def __init__(
        self, client: "S3Client", bucket: str, key: str, on_retry: Callable[[], None]
    ) -> None:
        self._s3 = client
        self._where: Any = {"Bucket": bucket, "Key": key}
        self._read_retries = retrier(is_transient, on_retry)
        self._write_retries = retrier(_was_not_applied, on_retry)

    def read(self) -> ObjectVersion | None:
        """Returns the current version; None if there is none. Raises the errors of botocore."""
        try:
            return self._read_retries(self._read)
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def put(self, record: bytes, write_id: str, if_etag: str | None) -> str:
        """Replaces the version with that etag, or stores the first one if it is None. Returns the
        new etag.
        """
        condition = {"IfMatch": f'"{if_etag}"'} if if_etag else {"IfNoneMatch": "*"}
        metadata = {_WRITE_ID: write_id}
        answer = self._write(self._s3.put_object, Body=record, Metadata=metadata, **condition)
        return unquote(answer["ETag"])

    def delete(self, if_etag: str) -> None:
        """Removes the version with that etag."""
        self._write(self._s3.delete_object, IfMatch=f'"{if_etag}"')

    def _read(self) -> ObjectVersion:
        answer = self._s3.get_object(**self._where)
        with answer["Body"] as body:
            body.read(MAX_RECORD_BYTES)  # so that the connection can be reused
        return ObjectVersion(
            unquote(answer["ETag"]),
            answer["Metadata"].get(_WRITE_ID, ""),
            answer["LastModified"],
            _age_of(answer),
        )

    def _write(self, request: Callable[..., T], **arguments: Any) -> T:
        """Raises `PreconditionFailedError`, `AmbiguousResponseError`, and other errors of
        botocore.
        """
        try:
            return self._write_retries(request, **self._where, **arguments)
        except ClientError as error:
            if status_of(error) == _PRECONDITION_FAILED or is_missing(error):
                raise PreconditionFailedError from error
            if status_of(error) >= SERVER_ERROR and not _was_not_applied(error):
                raise AmbiguousResponseError from error
            raise
        except (HTTPClientError, SSLError) as error:
            raise AmbiguousResponseError from error


def retrier(
    is_retryable: Callable[[BaseException], bool], on_retry: Callable[[], None]
) -> tenacity.Retrying:
    """Repeats a call after retryable errors, a few times, with jitter."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_retryable),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
        stop=_is_exhausted,
        before_sleep=lambda _: on_retry(),
        reraise=True,
    )


def is_transient(error: BaseException) -> bool:
    """Whether a read may succeed at the next try."""
    if isinstance(error, ClientError):
        return status_of(error) >= SERVER_ERROR or _was_not_applied(error)
    return isinstance(error, (HTTPClientError, *_UNSENT_ERRORS))


def unquote(etag: str) -> str:
    """Removes the quotes that HTTP puts around etags: ours are used in shells and JSON."""
    return etag.strip('"')


def _was_not_applied(error: BaseException) -> bool:
    """Whether S3 certainly didn't apply a write, and may apply it at the next try."""
    return isinstance(error, _UNSENT_ERRORS) or (
        isinstance(error, ClientError) and status_of(error) in _NOT_APPLIED
    )


def _is_exhausted(state: tenacity.RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    is_conflict = isinstance(error, ClientError) and status_of(error) == CONFLICT
    return state.attempt_number >= (_MAX_CONFLICTS if is_conflict else _MAX_ATTEMPTS)


def _age_of(answer: Any) -> float:
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not date:
        return 0.0
    age: timedelta = parsedate_to_datetime(date) - answer["LastModified"]
    return age.total_seconds()
