"""The errors of one request to S3, and what they mean for the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, RemoteDisconnected
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from httptools import HttpParserError

from kekd_common.aws_credentials import STALE_CODES, CredentialSourceError, sentence
from kekd_common.printable import printable
from kekd_server.model.errors import KekdError, StoreMisconfiguredError, StoreUnavailableError

_TEMPORARY_REDIRECTS: Final = {
    HTTPStatus.FOUND,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT,
}
_THROTTLING_CODES: Final = {
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
"""S3 rejects these requests before it applies them."""
_TRANSIENT_CODES: Final = _THROTTLING_CODES | {"RequestTimeout", "RequestTimeTooSkewed"}
"""Transient errors, also with a status below 500."""

_REGION_CODES: Final = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
}

_NOT_IMPLEMENTED: Final = "NotImplemented"
_MAX_TEXT: Final = 300

_CREDENTIALS: Final = "the daemon's AWS credentials (environment, profile or instance role)"
_RELOAD: Final = "which kekd reloads without a restart"


class RequestError(Exception):
    """A request to S3 failed."""

    is_transient = True
    """Whether the same request may succeed at the next try."""
    may_be_applied = True
    """Whether a write may have been applied, or may be later."""
    is_full = False
    """Whether the server has no room for an object."""


class ConnectError(RequestError):
    """There is no connection, so the request was not sent."""

    may_be_applied = False

    def __init__(self, cause: str, *, is_tls: bool = False) -> None:
        super().__init__(cause)
        self.is_tls = is_tls


class ResponseLostError(RequestError):
    """The request may have arrived, and no whole response came back."""


class InvalidResponseError(RequestError):
    """The response isn't from S3, but from a proxy or from a server at a wrong address."""


class RedirectError(RequestError):
    """The server redirected the request. kekd follows none: the target may not be S3."""

    may_be_applied = False

    def __init__(self, status: int, target: str, region: str) -> None:
        super().__init__(f"HTTP {status}" + (f" to {target}" if target else " without a target"))
        self.is_transient = status in _TEMPORARY_REDIRECTS
        self.region = region
        """The region of the bucket, if S3 named it."""


class S3Error(RequestError):
    """S3 reported an error."""

    def __init__(self, status: int, code: str, message: str, region: str) -> None:
        super().__init__(f"{code} (HTTP {status}): {message}" if message else code)
        self.code = code
        self.region = region
        """The region that S3 expects, if it named one."""
        self.is_missing = code == "NoSuchKey"
        """Whether there is no such object. A missing bucket is another error."""
        self.is_refusal = status in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT)
        """Whether the condition didn't hold, or another conditional write was in progress."""
        self.is_unsupported = code == _NOT_IMPLEMENTED
        """Whether the server doesn't implement the request or one of its headers."""
        self.is_full = status == HTTPStatus.INSUFFICIENT_STORAGE
        is_throttled = status == HTTPStatus.TOO_MANY_REQUESTS or code in _THROTTLING_CODES
        is_failure = status >= HTTPStatus.INTERNAL_SERVER_ERROR and not self.is_unsupported
        self.is_transient = (
            is_throttled or is_failure or status == HTTPStatus.CONFLICT or code in _TRANSIENT_CODES
        )
        self.may_be_applied = is_failure and not is_throttled


def describe(error: Exception) -> str:
    """Describes an error of a connection in one line, without content of a record."""
    # The first is the timeout of the kernel, see `Connector`.
    if isinstance(error, BlockingIOError) or (isinstance(error, TimeoutError) and not error.args):
        return "timed out"
    is_http = isinstance(error, (HTTPException, HttpParserError))
    if is_http and not isinstance(error, RemoteDisconnected):
        return f"invalid HTTP ({type(error).__name__})"  # its text may quote a record
    return printable(" ".join(str(error).split()))[:_MAX_TEXT] or type(error).__name__


@contextmanager
def translate_errors(store: str) -> Iterator[None]:
    """Translates errors of requests and credentials to errors of the store. `store` begins their
    texts.
    """
    try:
        yield
    except S3Error as error:
        raise _s3_error(store, error) from error
    except RequestError as error:
        raise _request_error(store, error) from error
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        raise StoreMisconfiguredError(
            f"{store} cannot be used: AWS responded with {code} to the request for credentials;"
            f" check {_CREDENTIALS}, {_RELOAD}"
        ) from error
    except BotoCoreError as error:
        raise _credentials_error(store, error) from error


def _s3_error(store: str, error: S3Error) -> KekdError:
    if error.is_transient:
        return StoreUnavailableError(f"{store} failed: S3 responded with {error}; retry")
    if error.region and error.code in _REGION_CODES:
        return _wrong_region(store, error.region)
    if error.code in STALE_CODES:
        advice = f"renew {_CREDENTIALS}, {_RELOAD}"
    elif error.is_unsupported:
        advice = "use an S3 server with conditional writes"
    else:
        advice = (
            "check that the bucket exists and that the daemon's credentials may read, write and"
            " list it"
        )
    return StoreMisconfiguredError(f"{store} failed: S3 responded with {error}; {advice}")


def _request_error(store: str, error: RequestError) -> KekdError:
    match error:
        case ConnectError(is_tls=True):
            return StoreMisconfiguredError(
                f"{store} cannot be used: {error}; if your own CA issued its certificate, start"
                " kekd with AWS_CA_BUNDLE set to the file of that CA"
            )
        case ConnectError():
            return StoreUnavailableError(f"{store} cannot be reached: {error}; retry")
        case RedirectError():
            return _redirect_error(store, error)
        case InvalidResponseError():
            return StoreUnavailableError(
                f"{store} failed: the response is not from S3: {error}; retry, and check the"
                " endpoint and any proxy in front of it"
            )
        case _:
            return StoreUnavailableError(f"{store} sent no whole response: {error}; retry")


def _redirect_error(store: str, error: RedirectError) -> KekdError:
    if error.region:
        return _wrong_region(store, error.region)
    text = f"{store} failed: it responded with {error}, and kekd follows no redirects"
    if error.is_transient:
        return StoreUnavailableError(f"{text}; retry, and check the endpoint")
    return StoreMisconfiguredError(f"{text}; set the endpoint (--s3-endpoint) to the right server")


def _wrong_region(store: str, region: str) -> KekdError:
    return StoreMisconfiguredError(
        f"{store} cannot be used: its bucket is in region {region}; set --s3-region {region}"
    )


def _credentials_error(store: str, error: BotoCoreError) -> KekdError:
    may_pass = (
        error.may_pass
        if isinstance(error, CredentialSourceError)
        else not isinstance(error, (NoCredentialsError, PartialCredentialsError))
    )
    kind = StoreUnavailableError if may_pass else StoreMisconfiguredError
    return kind(f"{store} cannot be used: {sentence(error)}; check {_CREDENTIALS}, {_RELOAD}")
