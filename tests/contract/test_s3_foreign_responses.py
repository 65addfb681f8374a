"""The S3 driver reports responses that S3 does not send, and never takes one for a result."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from unittest.mock import Mock

import pytest

from kekd_server.model.errors import StoreMisconfiguredError, StoreUnavailableError
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.watch.log_reader import S3LogReader
from kekd_server.storage.s3.watch.watcher import S3Watcher
from kekd_server.storage.watch.event import ChangeKind
from kekd_server.storage.watch.hub import Changes
from tests.contract.driver_contract import NAME
from tests.contract.s3_operations import each_operation
from tests.contract.scripted_s3 import BUCKET, Response, ScriptedS3, error, http, listing
from tests.patience import PATIENCE

PAGE = http("200 OK", "<!DOCTYPE html><html>Sign in</html>", content_type="text/html")
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
    "not implemented": (
        error("501 Not Implemented", "NotImplemented"),
        StoreMisconfiguredError,
        r"NotImplemented \(HTTP 501\): why; use an S3 server with conditional writes",
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
        list(driver.scan_objects())


@pytest.mark.parametrize("keys", [("b", "a"), ("a", "a")])
def test_unsorted_listing_is_not_trusted(
    driver: S3Driver, scripted_s3: ScriptedS3, keys: tuple[str, str]
) -> None:
    """A caller that lists page by page would miss names, or would never reach the end."""
    scripted_s3.play(listing(*(f"_catalog/config/{key}.kms.cat" for key in keys)))
    with pytest.raises(StoreUnavailableError, match="a listing that is not sorted by key"):
        driver.list(NamePrefix(""), None, 10, listing="l")


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
        assert await asyncio.wait_for(_next_found(polls), PATIENCE) is None  # a resync
        changes = await asyncio.wait_for(_next_found(polls), PATIENCE)
        assert changes is not None
        assert [change.kind for change in changes] == [ChangeKind.CREATED]


async def _next_found(polls: AsyncIterator[Changes]) -> Changes:
    return await anext(changes async for changes in polls if changes != [])
