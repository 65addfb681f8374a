"""AWS credentials that are searched again when there are none, or when AWS rejects them.

botocore searches for credentials when a client is made, and renews those with a known expiry. Its
sessions don't notice credentials that an agent writes to a file later, that a service provides
later, or that AWS revokes early.
"""

import threading
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, Final, Self, cast

import boto3
import botocore.session
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  (botocore's, not Python's)
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
)

from kekd_common.printable import printable

RENEWAL_INTERVAL: Final = 2.0
"""Minimum seconds between two searches. A search may run a program or call a service."""
_MAX_SENTENCE: Final = 500

STALE_CODES: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
"""AWS's error codes for credentials that are expired or unknown."""

_GENERATION: Final = "kekd_credentials"
_RENEWED: Final = "kekd_renewed"

Find = Callable[[], Credentials | None]


class CredentialSourceError(BotoCoreError):
    """The source of the credentials failed. The message says why, in one line."""

    fmt = "{problem}"

    def __init__(self, problem: str, *, code: str, may_pass: bool) -> None:
        super().__init__(problem=problem)
        self.code = code
        """The class name of the cause."""
        self.may_pass = may_pass
        """Whether a service failed that may work again later."""

    def copy(self) -> Self:
        """Copies the error for another caller, because each raise adds a traceback."""
        return type(self)(str(self), code=self.code, may_pass=self.may_pass)


class RenewableCredentials:
    """Provides the latest credentials to any number of clients and threads.

    For `RENEWAL_INTERVAL` seconds after a failed search, callers get the same error without a new
    search.
    """

    account_id = None

    def __init__(self, find: Find) -> None:
        """`find` searches all sources and caches nothing."""
        self._find = find
        self._lock = threading.Lock()
        self._current: Credentials | None = None
        self._generation = 0
        self._failure: CredentialSourceError | None = None
        self._next_search = float("-inf")

    def attach(self, client: Any) -> None:
        """Makes a client repeat a request once if AWS rejects these credentials."""
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-sign.{service}", self._note)
        client.meta.events.register(f"needs-retry.{service}", self._needs_retry)

    def get_frozen_credentials(self) -> ReadOnlyCredentials | None:
        """Returns None without credentials. Raises `CredentialSourceError`, or the error of STS."""
        generation = self.generation
        try:
            return self._freeze()
        except ClientError as error:
            # STS rejected the credentials that assume a role.
            if _code(error.response) not in STALE_CODES or not self.renew(generation):
                raise
        return self._freeze()

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        return lambda: getattr(self, name, None)

    def renew(self, generation: int) -> bool:
        """Searches again, and returns whether there are newer credentials than that generation."""
        with self._lock:
            if generation == self._generation:
                self._search()
            return generation != self._generation

    def _freeze(self) -> ReadOnlyCredentials | None:
        with self._lock:
            if time.monotonic() >= self._next_search:
                self._failure = None
            if self._current is None and self._failure is None:
                self._search()
            if self._failure:
                raise self._failure.copy()
            current = self._current
        try:
            return current.get_frozen_credentials() if current else None
        except Exception as error:
            if (failure := _failure(error)) is None:
                raise
        with self._lock:
            self._fail(failure)
            if self._current is current:
                self._current = None
        raise failure

    def _search(self) -> None:
        if time.monotonic() < self._next_search:
            return
        failure = None
        try:
            found = self._find()
        except Exception as error:
            if (failure := _failure(error)) is None:
                raise
        if failure:
            self._fail(failure)
            return
        self._next_search = time.monotonic() + RENEWAL_INTERVAL
        self._failure = None
        if found:
            self._current = found
            self._generation += 1

    def _fail(self, failure: CredentialSourceError) -> None:
        self._failure = failure
        self._next_search = time.monotonic() + RENEWAL_INTERVAL

    @property
    def generation(self) -> int:
        """The generation of the next result: before the first search, that search's."""
        return max(self._generation, 1)

    def _note(self, request: Any, **_: object) -> None:
        request.context[_GENERATION] = self.generation

    def _needs_retry(
        self, response: tuple[Any, dict[str, Any]] | None, request_dict: dict[str, Any], **_: object
    ) -> float | None:
        """Hook of botocore: returns the seconds until a retry, or None for no retry."""
        context = request_dict["context"]
        if response is None or _code(response[1]) not in STALE_CODES or context.get(_RENEWED):
            return None
        context[_RENEWED] = True
        return 0 if self.renew(context[_GENERATION]) else None


def make_client(session: botocore.session.Session, find: Find, service: str, **options: Any) -> Any:
    """Makes a boto3 client of `session` whose credentials renew themselves."""
    credentials = RenewableCredentials(find)
    # botocore has no public way to set such credentials.
    cast("Any", session)._credentials = credentials  # noqa: SLF001
    client = cast("Any", boto3.Session(botocore_session=session)).client(service, **options)
    credentials.attach(client)
    return client


def sentence(error: Exception) -> str:
    """Returns botocore's message as one printable line."""
    text = " ".join(str(error).split())
    return printable(text)[:_MAX_SENTENCE].rstrip(".")


def _failure(error: Exception) -> CredentialSourceError | None:
    """Converts an error of a credential source. Returns None for errors of AWS or the network."""
    code = type(error).__name__
    match error:
        case CredentialSourceError() | ConnectionError() | HTTPClientError():
            return None
        case OSError():
            source = error.filename or "the credentials"
            problem = (
                f"cannot read {source}: {error.strerror}; check that it exists and is readable"
            )
            return CredentialSourceError(problem, code=code, may_pass=False)
        case JSONDecodeError():  # its text has the document, and so maybe the credentials
            problem = "invalid output of credential_process: not JSON; check the program"
            return CredentialSourceError(problem, code=code, may_pass=False)
        case BotoCoreError():
            may_pass = isinstance(error, (CredentialRetrievalError, MetadataRetrievalError))
            return CredentialSourceError(sentence(error), code=code, may_pass=may_pass)
    return None


def _code(response: Any) -> str:
    return str(response.get("Error", {}).get("Code", ""))
