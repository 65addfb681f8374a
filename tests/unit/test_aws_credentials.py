"""AWS credentials that are late, expire early, or are unavailable for a while."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)

from kekd_common import aws_credentials
from kekd_common.aws_credentials import RENEWAL_INTERVAL as INTERVAL
from kekd_common.aws_credentials import CredentialSourceError, RenewableCredentials, sentence


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Source:
    """A source of credentials, which returns or raises `found`."""

    def __init__(self) -> None:
        self.found: Credentials | Exception | None = None
        self.searches = 0

    def __call__(self) -> Credentials | None:
        self.searches += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class FailingCredentials(Credentials):
    """Expired credentials that can't be renewed."""

    def __init__(self, error: Exception) -> None:
        super().__init__("old", "secret")
        self.error = error

    def get_frozen_credentials(self) -> Any:
        raise self.error


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(aws_credentials, "time", clock)
    return clock


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def credentials(source: Source, clock: Clock) -> RenewableCredentials:
    return RenewableCredentials(source)


def key_of(credentials: RenewableCredentials) -> str | None:
    frozen = credentials.get_frozen_credentials()
    return frozen.access_key if frozen else None


def refused(code: str = "ExpiredToken") -> ClientError:
    return ClientError({"Error": {"Code": code}}, "AssumeRole")


def test_credentials_are_not_searched_before_the_first_request(
    source: Source, credentials: RenewableCredentials
) -> None:
    assert source.searches == 0


def test_credentials_that_are_there_are_found_once(
    source: Source, clock: Clock, credentials: RenewableCredentials
) -> None:
    source.found = Credentials("a", "s")
    for _ in range(3):
        assert key_of(credentials) == "a"
        clock.now += INTERVAL
    assert source.searches == 1


def test_credentials_that_were_not_there_are_found_later(
    source: Source, clock: Clock, credentials: RenewableCredentials
) -> None:
    assert key_of(credentials) is None
    source.found = Credentials("a", "s")
    assert key_of(credentials) is None  # the source isn't asked at each request
    clock.now += INTERVAL
    assert key_of(credentials) == "a"
    assert source.searches == 2


@pytest.mark.parametrize(
    "error", [CredentialRetrievalError(provider="p", error_msg="m"), OSError(2, "gone", "/file")]
)
def test_failed_source_is_tried_again_later(
    source: Source, clock: Clock, credentials: RenewableCredentials, error: Exception
) -> None:
    source.found = error
    for _ in range(3):
        with pytest.raises(CredentialSourceError):
            credentials.get_frozen_credentials()
    assert source.searches == 1
    source.found = Credentials("a", "s")
    clock.now += INTERVAL
    assert key_of(credentials) == "a"


def test_credentials_that_cannot_be_renewed_are_looked_for_again(
    source: Source, clock: Clock, credentials: RenewableCredentials
) -> None:
    source.found = FailingCredentials(
        CredentialRetrievalError(provider="container-role", error_msg="down")
    )
    with pytest.raises(CredentialSourceError, match="container-role: down"):
        credentials.get_frozen_credentials()
    clock.now += INTERVAL
    source.found = Credentials("new", "s")
    assert key_of(credentials) == "new"


def test_renewing_finds_others_and_not_too_often(
    source: Source, clock: Clock, credentials: RenewableCredentials
) -> None:
    source.found = Credentials("old", "s")
    assert key_of(credentials) == "old"
    source.found = Credentials("new", "s")
    assert not credentials.renew(1)
    clock.now += INTERVAL
    assert credentials.renew(1)
    assert key_of(credentials) == "new"
    assert credentials.renew(1)  # another thread with the old credentials
    assert source.searches == 2


def test_renewal_that_finds_nothing_keeps_the_credentials(
    source: Source, clock: Clock, credentials: RenewableCredentials
) -> None:
    source.found = Credentials("old", "s")
    assert key_of(credentials) == "old"
    source.found = None
    clock.now += INTERVAL
    assert not credentials.renew(1)
    assert key_of(credentials) == "old"


def test_threads_refused_together_renew_once(
    source: Source, clock: Clock, credentials: RenewableCredentials
) -> None:
    source.found = Credentials("old", "s")
    assert key_of(credentials) == "old"
    clock.now += INTERVAL
    source.found = Credentials("new", "s")
    start = threading.Barrier(10)

    def renew(_: int) -> bool:
        start.wait()
        return credentials.renew(1)

    with ThreadPoolExecutor(10) as threads:
        assert all(threads.map(renew, range(10)))
    assert source.searches == 2


def test_role_refused_for_stale_credentials_is_requested_again(
    source: Source, clock: Clock, credentials: RenewableCredentials
) -> None:
    source.found = FailingCredentials(refused())
    with pytest.raises(ClientError):
        credentials.get_frozen_credentials()
    source.found = Credentials("new", "s")
    clock.now += INTERVAL
    assert key_of(credentials) == "new"


@pytest.mark.parametrize(
    "error", [refused("AccessDenied"), EndpointConnectionError(endpoint_url="u")]
)
def test_errors_of_aws_and_the_network_are_raised_unchanged(
    source: Source, credentials: RenewableCredentials, error: Exception
) -> None:
    source.found = FailingCredentials(error)
    with pytest.raises(type(error)):
        credentials.get_frozen_credentials()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/run/token"), "cannot read /run/token: Perm"),
        (UnauthorizedSSOTokenError(), "aws sso login"),
        (ProfileNotFound(profile="nowhere"), "The config profile (nowhere) could not be found"),
        (json.JSONDecodeError("m", "canary", 0), "not JSON"),
    ],
)
def test_failure_has_the_message_of_botocore(
    source: Source, credentials: RenewableCredentials, error: Exception, message: str
) -> None:
    source.found = error
    with pytest.raises(CredentialSourceError) as caught:
        credentials.get_frozen_credentials()
    assert message in str(caught.value)
    assert caught.value.code == type(error).__name__
    assert "canary" not in repr(vars(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "shown"), [("a\n  b.", "a b"), ("\x1b[2Ja", r"\x1b[2Ja"), ("x" * 10_000, "x" * 500)]
)
def test_sentence_is_one_printable_line(text: str, shown: str) -> None:
    assert sentence(Exception(text)) == shown
