"""Translates the errors of S3 and of its client into errors of a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)

from kekd_common.aws_credentials import STALE_CODES, CredentialSourceError, sentence
from kekd_server.model.errors import KekdError, StoreMisconfiguredError, StoreUnavailableError

CONFLICT: Final = 409
SERVER_ERROR: Final = 500
_TRANSIENT_CODES: Final = {
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
"""Transient errors with a status below 500."""
_CONFIGURATION_ERRORS: Final = (NoCredentialsError, PartialCredentialsError, ParamValidationError)

_CREDENTIALS: Final = "the daemon's AWS credentials (environment, profile or instance role)"
_RELOAD: Final = "which kekd reloads without a restart"


@contextmanager
def translate_errors(store: str) -> Iterator[None]:
    """Raises errors as errors of the store, which the texts call `store`."""
    try:
        yield
    except ClientError as error:
        raise _answer_error(store, error) from error
    except BotoCoreError as error:
        raise _client_error(store, error) from error


def code_of(error: ClientError) -> str:
    return error.response["Error"].get("Code", "")


def is_missing(error: ClientError) -> bool:
    """Whether the object doesn't exist."""
    return code_of(error) == "NoSuchKey"


def status_of(error: ClientError) -> int:
    return error.response["ResponseMetadata"].get("HTTPStatusCode", 0)


def _answer_error(store: str, error: ClientError) -> KekdError:
    code, status = code_of(error), status_of(error)
    if status >= SERVER_ERROR or code in _TRANSIENT_CODES or status == CONFLICT:
        return StoreUnavailableError(f"{store} failed: S3 answered {code}; retry")
    if code in STALE_CODES:
        return StoreMisconfiguredError(
            f"{store} failed: S3 answered {code}; renew {_CREDENTIALS}, {_RELOAD}"
        )
    return StoreMisconfiguredError(
        f"{store} failed: S3 answered {code}; check that the bucket exists and that the daemon's"
        " credentials may read, write and list it"
    )


def _client_error(store: str, error: BotoCoreError) -> KekdError:
    match error:
        case CredentialSourceError():
            kind = StoreUnavailableError if error.may_pass else StoreMisconfiguredError
            return kind(f"{store} cannot be used: {error}; check {_CREDENTIALS}, {_RELOAD}")
        case SSLError():
            return StoreMisconfiguredError(
                f"{store} cannot be used: {sentence(error)}; if your own CA issued its"
                " certificate, start kekd with AWS_CA_BUNDLE set to the file of that CA"
            )
    name, text = type(error).__name__, sentence(error)
    if isinstance(error, _CONFIGURATION_ERRORS):
        return StoreMisconfiguredError(
            f"{store} cannot be used ({name}): {text}; check its name and {_CREDENTIALS}, {_RELOAD}"
        )
    return StoreUnavailableError(f"{store} cannot be reached ({name}): {text}; retry")
