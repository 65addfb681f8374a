"""AWS credentials that are looked for again: where there were none, and where AWS refuses them.

botocore looks for credentials when a client is made, and renews those whose end it knows. What an
agent writes into a file, what a service hands out later, and what AWS ends early, it doesn't see
without a new session.
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

RENEWAL_INTERVAL: Final = 2.0
"""Seconds from one search to the next. A search may run a program or ask a service."""
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
"""What AWS answers to credentials that have ended, or that it doesn't know."""

_GENERATION: Final = "kekd_credentials"
_RENEWED: Final = "kekd_renewed"

Find = Callable[[], Credentials | None]


class CredentialSourceError(BotoCoreError):
    """Credentials couldn't be had. The text says why, in one line."""

    fmt = "{problem}"

    def __init__(self, problem: str, *, code: str, may_pass: bool) -> None:
        super().__init__(problem=problem)
        self.code = code
        """The class of the error behind it."""
        self.may_pass = may_pass
        """Whether that was a service which didn't answer as it should."""

    def copy(self) -> Self:
        """For another caller, as each adds its traceback."""
        return type(self)(str(self), code=self.code, may_pass=self.may_pass)


class RenewableCredentials:
    """Stands for the credentials that were found last, in any number of clients and threads.

    After a failure nothing is asked for `RENEWAL_INTERVAL` seconds, in which callers get the same.
    """

    account_id = None

    def __init__(self, find: Find) -> None:
        """`find` must look everywhere, and remember nothing."""
        self._find = find
        self._lock = threading.Lock()
        self._current: Credentials | None = None
        self._generation = 0
        self._failure: CredentialSourceError | None = None
        self._next_search = float("-inf")

    def attach(self, client: Any) -> None:
        """Has a client that signs with these repeat, once, what AWS refuses because of them."""
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-sign.{service}", self._note)
        client.meta.events.register(f"needs-retry.{service}", self._needs_retry)

    def get_frozen_credentials(self) -> ReadOnlyCredentials | None:
        """None if there are none. Raises `CredentialSourceError`, or the error of STS."""
        generation = self._next_generation()
        try:
            return self._freeze()
        except ClientError as error:
            # Of STS, about those that ask for a role.
            if _code(error.response) not in STALE_CODES or not self.renew(generation):
                raise
        return self._freeze()

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        return lambda: getattr(self, name, None)

    def renew(self, generation: int) -> bool:
        """Whether there are others now than those of that generation."""
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

    def _next_generation(self) -> int:
        """Of what will be answered with: before the first search, of what that will find."""
        return max(self._generation, 1)

    def _note(self, request: Any, **_: object) -> None:
        request.context[_GENERATION] = self._next_generation()

    def _needs_retry(
        self, response: tuple[Any, dict[str, Any]] | None, request_dict: dict[str, Any], **_: object
    ) -> float | None:
        """The question of botocore: after how many seconds to send it again, or None."""
        context = request_dict["context"]
        if response is None or _code(response[1]) not in STALE_CODES or context.get(_RENEWED):
            return None
        context[_RENEWED] = True
        return 0 if self.renew(context[_GENERATION]) else None


def make_client(session: botocore.session.Session, find: Find, service: str, **options: Any) -> Any:
    """A boto3 client of `session` with credentials that renew themselves."""
    credentials = RenewableCredentials(find)
    # There is no public way to give a session such credentials.
    cast("Any", session)._credentials = credentials  # noqa: SLF001
    client = cast("Any", boto3.Session(botocore_session=session)).client(service, **options)
    credentials.attach(client)
    return client


def sentence(error: Exception) -> str:
    """What botocore says of it, in one line that can be shown."""
    text = " ".join(str(error).split())
    return "".join(it if it.isprintable() else "?" for it in text)[:_MAX_SENTENCE].rstrip(".")


def _failure(error: Exception) -> CredentialSourceError | None:
    """None for what isn't about the source: what AWS or somebody in its place answers."""
    code = type(error).__name__
    match error:
        case CredentialSourceError() | ConnectionError() | HTTPClientError():
            return None
        case OSError():
            what = error.filename or "the source of credentials"
            problem = f"{what} can't be used: {error.strerror}: check that it is there, and that"
            return CredentialSourceError(
                f"{problem} this process may read it", code=code, may_pass=False
            )
        case JSONDecodeError():  # holds the document, in which the credentials may be
            problem = "what credential_process printed isn't JSON: check that program"
            return CredentialSourceError(problem, code=code, may_pass=False)
        case BotoCoreError():
            may_pass = isinstance(error, (CredentialRetrievalError, MetadataRetrievalError))
            return CredentialSourceError(sentence(error), code=code, may_pass=may_pass)
    return None


def _code(response: Any) -> str:
    return str(response.get("Error", {}).get("Code", ""))
