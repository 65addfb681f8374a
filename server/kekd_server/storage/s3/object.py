"""Requests to one S3 object, each sent again only if S3 surely didn't apply it."""

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

_MARK: Final = "kekd-write"
"""Object metadata that names the write which stored the object."""
_UNSENT: Final = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_PRECONDITION_FAILED = 412
_TOO_MANY_REQUESTS, _SERVICE_UNAVAILABLE = 429, 503
_TURNED_AWAY: Final = {CONFLICT, _TOO_MANY_REQUESTS, _SERVICE_UNAVAILABLE}
"""With these S3 says that it didn't do what was asked, and that it may if asked again."""
_CLOCK_RESOLUTION: Final = 2.0
"""Seconds by which an age may be wrong, as both its times are whole seconds."""
_MAX_ATTEMPTS: Final = 2
"""Few, as clients retry too: an S3 that is down is reported within their default timeout."""
_MAX_CONFLICTS: Final = 5
"""S3 answers 409 when two conditional writes of one key cross."""


class RefusedError(Exception):
    """The condition didn't hold: the request changed nothing."""


class UnansweredError(Exception):
    """S3 may have applied the request or not. Its cause is what botocore raised."""


class Version(NamedTuple):
    """An object as it was read at one moment."""

    etag: str
    mark: str
    """The id of the write that stored it; empty if kekd didn't."""
    modified: datetime
    age: float
    """Seconds since it was stored, by S3's own clock; 0 if S3 doesn't say."""

    def is_older_than(self, seconds: float) -> bool:
        return self.age > seconds + _CLOCK_RESOLUTION

    def is_same(self, other: "Version | None") -> bool:
        """Whether nobody wrote the object in between."""
        return other is not None and self[:3] == other[:3]


class S3Object:
    """Its `before` arguments and results are etags without their quotes."""

    def __init__(
        self, client: "S3Client", bucket: str, key: str, on_retry: Callable[[], None]
    ) -> None:
        self._s3 = client
        self._where: Any = {"Bucket": bucket, "Key": key}
        self._read_retries = retrying(is_transient, on_retry)
        self._write_retries = retrying(_is_turned_away, on_retry)

    def read(self) -> Version | None:
        """The current version. Raises what botocore raises."""
        try:
            return self._read_retries(self._read)
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def put(self, record: bytes, mark: str, before: str | None) -> str:
        """Stores a record over the version `before`, or where there is none; the new etag."""
        condition = {"IfMatch": f'"{before}"'} if before else {"IfNoneMatch": "*"}
        answer = self._write(self._s3.put_object, Body=record, Metadata={_MARK: mark}, **condition)
        return unquoted(answer["ETag"])

    def delete(self, before: str) -> None:
        """Removes the version `before`."""
        self._write(self._s3.delete_object, IfMatch=f'"{before}"')

    def _read(self) -> Version:
        answer = self._s3.get_object(**self._where)
        with answer["Body"] as body:
            body.read(MAX_RECORD_BYTES)  # so that the connection can be used again
        return Version(
            unquoted(answer["ETag"]),
            answer["Metadata"].get(_MARK, ""),
            answer["LastModified"],
            _age_of(answer),
        )

    def _write(self, request: Callable[..., T], **arguments: Any) -> T:
        """Raises `RefusedError`, `UnansweredError`, and what botocore raises of other answers."""
        try:
            return self._write_retries(request, **self._where, **arguments)
        except ClientError as error:
            if status_of(error) == _PRECONDITION_FAILED or is_missing(error):
                raise RefusedError from error
            if status_of(error) >= SERVER_ERROR and not _is_turned_away(error):
                raise UnansweredError from error
            raise
        except (HTTPClientError, SSLError) as error:
            raise UnansweredError from error


def retrying(
    is_retryable: Callable[[BaseException], bool], on_retry: Callable[[], None]
) -> tenacity.Retrying:
    """Calls again what fails so, a few times, with jitter."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_retryable),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
        stop=_has_tried_enough,
        before_sleep=lambda _: on_retry(),
        reraise=True,
    )


def is_transient(error: BaseException) -> bool:
    """Whether a read that failed so may succeed at the next try."""
    if isinstance(error, ClientError):
        return status_of(error) >= SERVER_ERROR or _is_turned_away(error)
    return isinstance(error, (HTTPClientError, *_UNSENT))


def unquoted(etag: str) -> str:
    """S3 quotes its etags, as HTTP does; ours goes through shells and JSON."""
    return etag.strip('"')


def _is_turned_away(error: BaseException) -> bool:
    """Whether S3 surely didn't apply a write that failed so, and may at the next try."""
    return isinstance(error, _UNSENT) or (
        isinstance(error, ClientError) and status_of(error) in _TURNED_AWAY
    )


def _has_tried_enough(state: tenacity.RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    crossed = isinstance(error, ClientError) and status_of(error) == CONFLICT
    return state.attempt_number >= (_MAX_CONFLICTS if crossed else _MAX_ATTEMPTS)


def _age_of(answer: Any) -> float:
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not date:
        return 0.0
    age: timedelta = parsedate_to_datetime(date) - answer["LastModified"]
    return age.total_seconds()
