"""The S3 driver answers correctly, or with a clear error, to every response of a server."""

import asyncio
import base64
import hashlib
import zlib
from collections.abc import Callable
from contextlib import aclosing
from typing import Literal
from unittest.mock import Mock

import pytest

from kekd_server.model.errors import (
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    OutcomeUnknownError,
    StoreMisconfiguredError,
    StoreUnavailableError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3 import connection_pool, exchange_reaper
from kekd_server.storage.s3.client import make_client
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.log_reader import S3LogReader
from kekd_server.storage.s3.watcher import S3Watcher
from kekd_server.storage.watch.event import ChangeKind
from tests.contract.driver_contract import ALL, NAME
from tests.contract.scripted_s3 import (
    BUCKET,
    DELETED,
    MISSING,
    PUT_DONE,
    REFUSED,
    Response,
    ScriptedS3,
    error,
    http,
    listing,
    scripted_s3,
    stored,
)
from tests.fixtures.s3 import REGION
from tests.patience import PATIENCE

__all__ = ["scripted_s3"]

RECORD = b"a record"
PAGE = http("200 OK", "<!DOCTYPE html><html>Sign in</html>", content_type="text/html")


@pytest.fixture
def driver(scripted_s3: ScriptedS3, aws_credentials: dict[str, str]) -> S3Driver:
    location = S3Location(BUCKET, "", REGION, scripted_s3.endpoint)
    return S3Driver(make_client(location), location)


# Bodies that aren't whole

WAYS: list[Literal["close", "reset", "stall"]] = ["close", "reset", "stall"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "_READ_TIMEOUT", 1.0)


@pytest.mark.parametrize("missing", [1, len(RECORD)])
@pytest.mark.parametrize("ending", WAYS)
def test_record_that_arrives_partly_is_requested_again(
    driver: S3Driver,
    scripted_s3: ScriptedS3,
    impatient: None,
    missing: int,
    ending: Literal["close", "reset", "stall"],
) -> None:
    whole = stored(RECORD)
    scripted_s3.play(whole.cut(missing, ending), whole)
    assert driver.get(NAME).record == RECORD
    scripted_s3.play(whole.cut(missing, ending))
    with pytest.raises(StoreUnavailableError, match="sent no whole response"):
        driver.get(NAME)
    assert len(scripted_s3.requests) == 2


@pytest.mark.parametrize(
    ("algorithm", "checksum"),
    [
        ("crc32", zlib.crc32(RECORD).to_bytes(4)),
        ("sha1", hashlib.sha1(RECORD).digest()),
        ("sha256", hashlib.sha256(RECORD).digest()),
    ],
)
def test_record_that_does_not_match_its_checksum_is_requested_again(
    driver: S3Driver, scripted_s3: ScriptedS3, algorithm: str, checksum: bytes
) -> None:
    announced = {f"x-amz-checksum-{algorithm}": base64.b64encode(checksum).decode()}
    damaged = stored(RECORD.replace(b"a", b"b"), **announced)
    scripted_s3.play(damaged, stored(RECORD, **announced))
    assert driver.get(NAME).record == RECORD
    scripted_s3.play(damaged)
    with pytest.raises(StoreUnavailableError, match="does not match its checksum"):
        driver.get(NAME)


def test_record_without_an_announced_length_is_not_trusted(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    content = stored(RECORD).content.replace(b"content-length: 8\r\n", b"")
    scripted_s3.play(Response(content, "close"))
    with pytest.raises(StoreUnavailableError, match="did not announce the length"):
        driver.get(NAME)


def test_response_that_arrives_too_slowly_is_given_up(
    driver: S3Driver, scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then would keep the timeout of the socket from ever ending the exchange."""
    monkeypatch.setattr(exchange_reaper, "EXCHANGE_TIMEOUT", 0.3)
    monkeypatch.setattr(exchange_reaper, "_INTERVAL", 0.05)
    head, _, _ = stored(RECORD).content.partition(b"\r\n\r\n")
    scripted_s3.play(Response(head + b"\r\n", "drip"))
    with pytest.raises(StoreUnavailableError, match="sent no whole response"):
        driver.get(NAME)


def test_listing_that_arrives_partly_is_requested_again(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    page = listing(f"_catalog/config/{NAME.key}")
    scripted_s3.play(page.cut(20, "close"), page)
    assert driver.list(ALL, None, 10, listing="l") == [NAME]


# Responses that S3 doesn't send

OPERATIONS: dict[str, Callable[[S3Driver], object]] = {
    "check": lambda driver: driver.check(),
    "get": lambda driver: driver.get(NAME),
    "create": lambda driver: driver.create(NAME, RECORD),
    "put": lambda driver: driver.put(NAME, RECORD, if_etag=None),
    "delete": lambda driver: driver.delete(NAME, if_etag=None),
    "list": lambda driver: driver.list(ALL, None, 10, listing="l"),
    "list_versions": lambda driver: list(driver.list_versions()),
    "find_version": lambda driver: driver.find_version(NAME),
}
each_operation = pytest.mark.parametrize("operate", OPERATIONS.values(), ids=OPERATIONS)
FOREIGN: dict[str, tuple[Response, type[Exception], str]] = {
    "page": (PAGE, StoreUnavailableError, "HTTP 200 OK, text/html, 35 bytes"),
    "page with an etag": (
        http(
            "200 OK",
            "<html>",
            content_type="text/html",
            etag='"e"',
            last_modified="Sat, 28 Nov 2026 08:00:00 GMT",
        ),
        StoreUnavailableError,
        "HTTP 200 OK, text/html",
    ),
    "JSON": (
        http("200 OK", "{}", content_type="application/json"),
        StoreUnavailableError,
        "HTTP 200 OK, application/json",
    ),
    "nothing": (http("200 OK"), StoreUnavailableError, "HTTP 200 OK, no type, 0 bytes"),
    "error page": (
        http("403 Forbidden", "<html>", content_type="text/html", server="nginx"),
        StoreUnavailableError,
        "HTTP 403 Forbidden, text/html, 6 bytes, server nginx",
    ),
    "not found page": (
        http("404 Not Found", "<html>", content_type="text/html"),
        StoreUnavailableError,
        "HTTP 404 Not Found, text/html",
    ),
    "no method": (http("405 Method Not Allowed"), StoreUnavailableError, "HTTP 405 Method Not"),
    "no method of S3": (
        error("405 Method Not Allowed", "MethodNotAllowed"),
        StoreMisconfiguredError,
        r"MethodNotAllowed \(HTTP 405\): why",
    ),
    "no space": (
        error("507 Insufficient Storage", "XMinioStorageFull"),
        StoreUnavailableError,
        r"XMinioStorageFull \(HTTP 507\): why",
    ),
    "no space page": (http("507 Insufficient Storage"), StoreUnavailableError, "HTTP 507 Insuff"),
    **{
        f"{status} with a target": (
            http(f"{status} Moved", location="https://elsewhere.example/"),
            kind,
            f"HTTP {status} to https://elsewhere.example/",
        )
        for status, kind in (
            (301, StoreMisconfiguredError),
            (302, StoreUnavailableError),
            (307, StoreUnavailableError),
            (308, StoreMisconfiguredError),
        )
    },
    "301 without a target": (
        http("301 Moved"),
        StoreMisconfiguredError,
        "HTTP 301 without a target",
    ),
    "302 without a target": (http("302 Found"), StoreUnavailableError, "HTTP 302 without a target"),
    "throttled with a region": (
        error("503 Slow Down", "SlowDown", x_amz_bucket_region="default"),
        StoreUnavailableError,
        "SlowDown",
    ),
    "long code": (
        error("503 Slow Down", "X" * 20_000),
        StoreUnavailableError,
        "X{300} ",
    ),
    "other region": (
        error("301 Moved", "PermanentRedirect", x_amz_bucket_region="eu-central-1"),
        StoreMisconfiguredError,
        "its bucket is in region eu-central-1; set --s3-region eu-central-1",
    ),
    "other region in the signature": (
        http(
            "400 Bad Request",
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>",
        ),
        StoreMisconfiguredError,
        "its bucket is in region eu-west-1; set --s3-region eu-west-1",
    ),
}


@each_operation
@pytest.mark.parametrize(("response", "kind", "text"), FOREIGN.values(), ids=FOREIGN)
def test_response_of_another_server_is_reported(
    driver: S3Driver,
    scripted_s3: ScriptedS3,
    operate: Callable[[S3Driver], object],
    response: Response,
    kind: type[Exception],
    text: str,
) -> None:
    scripted_s3.play(response)
    with pytest.raises(kind, match=text):
        operate(driver)
    assert len(scripted_s3.requests) <= 3, "a redirect must not start a search for the region"


@pytest.mark.parametrize(
    "response",
    [
        listing(NAME.key, bucket="another"),
        http("200 OK", "<ListAllMyBucketsResult/>"),
        http("200 OK", f"<ListBucketResult><Name>{BUCKET}</Name></ListBucketResult>"),
        http(
            "200 OK",
            f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>true</IsTruncated>"
            "</ListBucketResult>",
        ),
        http(
            "200 OK",
            f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>true</IsTruncated>"
            "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
        ),
        http(
            "200 OK",
            f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>"
            "<Contents><Key>k</Key></Contents></ListBucketResult>",
        ),
    ],
    ids=["another bucket", "another root", "no end", "no token", "same token", "no etag"],
)
def test_incomplete_listing_is_not_trusted(
    driver: S3Driver, scripted_s3: ScriptedS3, response: Response
) -> None:
    scripted_s3.play(response)
    with pytest.raises(StoreUnavailableError, match="not from S3"):
        list(driver.list_versions())


async def test_responses_of_another_server_are_no_changes(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    key = f"_catalog/config/{NAME.key}"
    log_reader = Mock(S3LogReader, is_on=True, read=set)
    other = f"_catalog/config/{IndexName('other').key}"
    scripted_s3.play(listing(key), PAGE, PAGE, listing(other), listing(key, other))
    watcher = S3Watcher(driver, log_reader, "s3:scripted", 0.01)
    async with aclosing(watcher.poll(asyncio.to_thread)) as polls:
        assert await asyncio.wait_for(anext(polls), PATIENCE) == []
        assert await asyncio.wait_for(anext(polls), PATIENCE) is None  # a resync
        changes = await asyncio.wait_for(anext(polls), PATIENCE)
        assert changes is not None
        assert [change.kind for change in changes] == [ChangeKind.CREATED]


# Writes whose response is lost

LOST = Response(b"", "close")


def test_delete_whose_response_was_lost_removes_no_later_envelope(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    """The rival creates the envelope again before the daemon reads it."""
    scripted_s3.play(stored(RECORD), LOST, stored(b"rival", etag='"rival"'), DELETED)
    with pytest.raises(OutcomeUnknownError):
        driver.delete(NAME, if_etag=None)
    assert [request.split()[0] for request in scripted_s3.requests].count("DELETE") == 1


def test_delete_whose_response_was_lost_succeeds_if_nothing_is_there(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    scripted_s3.play(stored(RECORD), LOST, MISSING)
    assert driver.delete(NAME, if_etag="e") == "e"


def test_conditional_delete_refused_where_nothing_is_succeeds(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    """Some servers answer 412 where AWS answers 404."""
    scripted_s3.play(stored(RECORD), REFUSED, MISSING)
    assert driver.delete(NAME, if_etag="e") is None


def test_delete_that_s3_applied_late_reports_the_etag(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    """The first request is applied after its response was lost, and before the second one."""
    there = stored(RECORD)
    scripted_s3.play(there, LOST, there, there, REFUSED, MISSING)
    assert driver.delete(NAME, if_etag=None) == "e"


def test_delete_is_done_only_if_s3_says_so(driver: S3Driver, scripted_s3: ScriptedS3) -> None:
    there = stored(RECORD)
    scripted_s3.play(there, http("202 Accepted"), there, there, DELETED)
    assert driver.delete(NAME, if_etag=None) == "e"
    assert [request.split()[0] for request in scripted_s3.requests].count("DELETE") == 2


@pytest.mark.parametrize("refusal", [REFUSED, error("409 Conflict", "ConditionalRequestConflict")])
def test_create_refused_where_nothing_is_is_tried_again(
    driver: S3Driver, scripted_s3: ScriptedS3, refusal: Response
) -> None:
    scripted_s3.play(refusal, MISSING, PUT_DONE)
    assert driver.create(NAME, RECORD) == "new"


def test_create_deleted_by_another_after_its_response_was_lost_has_an_unknown_outcome(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    scripted_s3.play(LOST, MISSING, PUT_DONE)
    with pytest.raises(OutcomeUnknownError):
        driver.create(NAME, RECORD)
    assert [request.split()[0] for request in scripted_s3.requests].count("PUT") == 1


def test_version_with_the_same_etag_and_another_mark_is_another_write(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    mine, rival = ({"x-amz-meta-kekd-write": mark} for mark in ("old", "rival"))
    scripted_s3.play(stored(RECORD, **mine), LOST, stored(RECORD, **rival), DELETED)
    with pytest.raises(OutcomeUnknownError):
        driver.delete(NAME, if_etag=None)


def test_create_over_an_existing_envelope_is_refused(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    scripted_s3.play(REFUSED, stored(RECORD))
    with pytest.raises(EnvelopeExistsError):
        driver.create(NAME, RECORD)


# Credentials and connections


def test_credentials_that_no_header_can_have_are_not_shown(
    driver: S3Driver, scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary\n")
    scripted_s3.play(stored(RECORD))
    with pytest.raises(StoreMisconfiguredError, match="invalid character") as caught:
        driver.get(NAME)
    assert "canary" not in str(caught.value)
    assert not scripted_s3.requests


def test_connection_that_the_server_closed_is_not_used_again(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    whole = stored(RECORD)
    scripted_s3.play(whole._replace(ending="close"))
    for _ in range(3):
        assert driver.get(NAME).record == RECORD
    assert len(scripted_s3.requests) == scripted_s3.connections == 3


def test_connection_is_kept(driver: S3Driver, scripted_s3: ScriptedS3) -> None:
    scripted_s3.play(stored(RECORD), MISSING, stored(RECORD))
    driver.get(NAME)
    with pytest.raises(EnvelopeNotFoundError):
        driver.get(NAME)
    driver.get(NAME)
    assert scripted_s3.connections == 1


def test_request_through_a_proxy_names_the_whole_url(
    scripted_s3: ScriptedS3, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", scripted_s3.endpoint)
    scripted_s3.play(stored(RECORD))
    location = S3Location(BUCKET, "", REGION, "http://s3.example:9000")
    S3Driver(make_client(location), location).get(NAME)
    key = f"_catalog/config/{NAME.key}"
    assert scripted_s3.requests == [f"GET http://s3.example:9000/{BUCKET}/{key}"]


def test_request_over_tls_through_a_proxy_opens_a_tunnel(
    scripted_s3: ScriptedS3, aws_credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", scripted_s3.endpoint.replace("//", "//user:word@"))
    scripted_s3.play(http("407 Proxy Authentication Required")._replace(ending="close"))
    location = S3Location(BUCKET, "", REGION, "https://s3.example")
    with pytest.raises(StoreUnavailableError, match="407") as caught:
        S3Driver(make_client(location), location).get(NAME)
    assert set(scripted_s3.requests) == {"CONNECT s3.example:443"}
    assert "word" not in str(caught.value)


def test_no_proxy_is_honoured(
    driver: S3Driver, scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    scripted_s3.play(stored(RECORD))
    location = S3Location(BUCKET, "", REGION, scripted_s3.endpoint)
    assert S3Driver(make_client(location), location).get(NAME).record == RECORD
