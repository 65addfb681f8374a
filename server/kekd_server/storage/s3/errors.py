"""What the failures of S3 and of its client mean for a store."""

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
"""Codes below 500 that may be gone at the next try."""
_UNUSABLE: Final = (NoCredentialsError, PartialCredentialsError, ParamValidationError)

_CREDENTIALS: Final = "the daemon's AWS credentials (environment, profile or instance role)"
_NO_RESTART: Final = "kekd looks for new ones by itself"


@contextmanager
def translated(store: str) -> Iterator[None]:
    """Raises what goes wrong inside as an error of the store, which is called that."""
    try:
        yield
    except ClientError as error:
        raise _of_answer(store, error) from error
    except BotoCoreError as error:
        raise _of_client(store, error) from error


def code_of(error: ClientError) -> str:
    return error.response["Error"].get("Code", "")


def is_missing(error: ClientError) -> bool:
    """Whether there is no object of that key."""
    return code_of(error) == "NoSuchKey"


def status_of(error: ClientError) -> int:
    return error.response["ResponseMetadata"].get("HTTPStatusCode", 0)


def _of_answer(store: str, error: ClientError) -> KekdError:
    code, status = code_of(error), status_of(error)
    if status >= SERVER_ERROR or code in _TRANSIENT_CODES or status == CONFLICT:
        return StoreUnavailableError(f"{store} answered {code}: try again.")
    if code in STALE_CODES:
        return StoreMisconfiguredError(
            f"{store} answered {code}: renew {_CREDENTIALS}; {_NO_RESTART}."
        )
    return StoreMisconfiguredError(
        f"{store} answered {code}: check that the bucket exists and that the daemon's credentials"
        " may read, write and list it."
    )


def _of_client(store: str, error: BotoCoreError) -> KekdError:
    match error:
        case CredentialSourceError():
            kind = StoreUnavailableError if error.may_pass else StoreMisconfiguredError
            return kind(f"{store} can't be used: {error}: check {_CREDENTIALS}; {_NO_RESTART}.")
        case SSLError():
            return StoreMisconfiguredError(
                f"{store} can't be used: {sentence(error)}: if a CA of your own issued its"
                " certificate, start kekd with AWS_CA_BUNDLE naming that CA's file."
            )
    name, text = type(error).__name__, sentence(error)
    if isinstance(error, _UNUSABLE):
        return StoreMisconfiguredError(
            f"{store} can't be used ({name}): {text}: check its name and {_CREDENTIALS};"
            f" {_NO_RESTART}."
        )
    return StoreUnavailableError(f"{store} can't be reached ({name}): {text}: try again.")
