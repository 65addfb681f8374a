"""Requests to one S3 bucket: signed, and their responses checked."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

import botocore.session
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError

from kekd_common.aws_credentials import STALE_CODES, CredentialSourceError, RenewableCredentials
from kekd_common.printable import printable
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3 import checksum
from kekd_server.storage.s3.errors import (
    InvalidResponseError,
    RedirectError,
    RequestError,
    ResponseLostError,
    S3Error,
)
from kekd_server.storage.s3.http.connection_pool import ConnectionPool
from kekd_server.storage.s3.http.endpoint import Endpoint, resolve
from kekd_server.storage.s3.http.response import Response
from kekd_server.storage.s3.listing import (
    NULL_VERSION,
    ListedObject,
    ListedVersion,
    ListPage,
    VersionsPage,
    end_of_second,
    parse_error,
    parse_listing,
    parse_versioning,
    parse_versions,
)
from kekd_server.storage.s3.signature import Query, Signer, UnsignedRequest, encode, encode_query

T = TypeVar("T")

MAX_CONNECTIONS: Final = 64
"""Connections that are kept for further requests."""
WRITE_ID: Final = "x-amz-meta-kekd-write"
"""The object metadata that names the write which stored the object."""
_METADATA_PREFIX: Final = "x-amz-meta-kekd-"
_RETAIN_UNTIL: Final = "x-amz-object-lock-retain-until-date"
_LEGAL_HOLD: Final = "x-amz-object-lock-legal-hold"
MAX_PAGE_SIZE: Final = 1000
_MAX_LISTING_BYTES: Final = 8 << 20
"""Enough for 1,000 keys of 1,024 bytes, URL-encoded."""
_MAX_VERSIONING_BYTES: Final = 1 << 16
_MAX_RETRY_DELAY: Final = 0.1
_MAX_MESSAGE: Final = 300
_CONTENT_TYPE: Final = "application/octet-stream"
"""Some servers would guess another type from the content."""
_SUCCESSES: Final = range(200, 300)
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_WEB_TYPES: Final = ("text/html", "application/json")
"""What consoles and captive portals send. Records have another type, or none."""


class StoredObject(NamedTuple):
    content: bytes
    etag: str
    """Without quotes."""
    write_id: str
    """The id of the write that stored it; empty if another program did."""
    modified: str
    """The Last-Modified header."""
    date: str
    """The Date header: the time of the server when it responded. Empty if it sent none."""
    version_id: str = ""
    """Empty if S3 doesn't keep the version when the object is replaced or deleted."""
    metadata: Mapping[str, str] = MappingProxyType({})
    """The headers with kekd's own metadata."""
    retained_until: str = ""
    """When S3 Object Lock lets the version be removed; empty if S3 doesn't report it."""
    has_legal_hold: bool = False

    @property
    def modified_ns(self) -> int:
        """See `end_of_second`; 0 if the server sent no HTTP date."""
        try:
            return end_of_second(parsedate_to_datetime(self.modified))
        except (ValueError, OverflowError):
            return 0


class PutResult(NamedTuple):
    etag: str
    """Without quotes."""
    version_id: str
    """See `StoredObject.version_id`."""


class S3Client:
    """Reads, writes and lists the objects of a bucket.

    The methods raise `RequestError`, and the errors of botocore if the credentials fail. A read is
    repeated once after a transient error, and a write only if S3 certainly didn't apply it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: RenewableCredentials,
        *,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_retry` is called before each request that repeats another."""
        self.endpoint = endpoint
        self._credentials = credentials
        self._signer = Signer(endpoint.region)
        self._pool = ConnectionPool(endpoint, MAX_CONNECTIONS)
        self._on_retry = on_retry

    def get_object(self, key: str, max_bytes: int, *, version_id: str = "") -> StoredObject:
        """Reads at most `max_bytes` of an object. Raises `S3Error` if there is none."""
        get = partial(self._get_object, key, max_bytes, version_id)
        return self._retry_once(get, _is_transient)

    def find_object(self, key: str, max_bytes: int) -> StoredObject | None:
        """Does the same, but returns None if there is no object. A missing bucket is an error."""
        try:
            return self.get_object(key, max_bytes)
        except S3Error as error:
            if error.is_missing:
                return None
            raise

    def put_object(self, key: str, content: bytes, headers: Mapping[str, str]) -> PutResult:
        return self._retry_once(partial(self._put_object, key, content, headers), _is_unapplied)

    def delete_object(self, key: str, headers: Mapping[str, str]) -> str:
        """Returns the version id of the deletion; empty if S3 doesn't keep what it deleted."""
        return self._retry_once(partial(self._delete_object, key, headers), _is_unapplied)

    def delete_version(self, key: str, version_id: str) -> None:
        """Removes a version, so that no copy is left."""
        query = (("versionId", version_id),)
        self._retry_once(partial(self._delete_object, key, {}, query), _is_transient)

    def list_objects_v2(
        self, prefix: str, *, start_after: str = "", page_size: int = MAX_PAGE_SIZE
    ) -> Iterator[Sequence[ListedObject]]:
        """Yields pages of the objects with that prefix, sorted by key. The first page may be
        empty.
        """
        query = (
            ("encoding-type", "url"),
            ("list-type", "2"),
            ("max-keys", str(min(page_size, MAX_PAGE_SIZE))),
            ("prefix", prefix),
            ("start-after", start_after),
        )
        token = ""
        while True:
            more = (("continuation-token", token),) if token else ()
            page = self._retry_once(partial(self._list_objects_v2, (*more, *query)), _is_transient)
            yield page.objects
            if not page.next_token:
                return
            if page.next_token == token:
                raise InvalidResponseError("a listing that does not advance")
            token = page.next_token

    def list_object_versions(
        self, prefix: str, *, start_after: str = ""
    ) -> Iterator[Sequence[ListedVersion]]:
        """Yields pages of the versions that S3 keeps of the objects with that prefix, sorted by
        key. Those of a key are the newest first.
        """
        query = (
            ("encoding-type", "url"),
            ("max-keys", str(MAX_PAGE_SIZE)),
            ("prefix", prefix),
            ("versions", ""),
        )
        more: Query = (("key-marker", start_after),) if start_after else ()
        while True:
            page = self._retry_once(
                partial(self._list_object_versions, (*more, *query)), _is_transient
            )
            yield page.versions
            if not page.next_key:
                return
            previous = more
            more = (("key-marker", page.next_key), ("version-id-marker", page.next_id))
            if more == previous:
                raise InvalidResponseError("a listing that does not advance")

    def get_bucket_versioning(self) -> str:
        """See `parse_versioning`."""
        return self._retry_once(self._get_bucket_versioning, _is_transient)

    def close(self) -> None:
        self._pool.close()

    def _get_object(self, key: str, max_bytes: int, version_id: str) -> StoredObject:
        query = (("versionId", version_id),) if version_id else ()
        request = self._request("GET", key, query=query, headers={"x-amz-checksum-mode": "ENABLED"})
        response = self._send(request, max_bytes)
        headers = response.headers
        etag, modified = headers.get("etag"), headers.get("last-modified")
        is_object = response.status == HTTPStatus.OK and "content-encoding" not in headers
        if not is_object or not etag or not modified or response.content_type in _WEB_TYPES:
            raise InvalidResponseError(_describe(response))
        _verify_body(response, max_bytes)
        return StoredObject(
            content=response.body,
            etag=_unquote(etag),
            write_id=headers.get(WRITE_ID, ""),
            modified=modified,
            date=headers.get("date", ""),
            version_id=_version_id_of(headers),
            metadata={
                name: text for name, text in headers.items() if name.startswith(_METADATA_PREFIX)
            },
            retained_until=printable(headers.get(_RETAIN_UNTIL, ""))[:_MAX_MESSAGE],
            has_legal_hold=headers.get(_LEGAL_HOLD) == "ON",
        )

    def _put_object(self, key: str, content: bytes, headers: Mapping[str, str]) -> PutResult:
        headers = {**headers, "content-type": _CONTENT_TYPE, **checksum.headers_of(content)}
        response = self._send(self._request("PUT", key, headers=headers, body=content))
        etag = response.headers.get("etag")
        if response.status != HTTPStatus.OK or not etag or response.body:
            raise InvalidResponseError(_describe(response))
        return PutResult(_unquote(etag), _version_id_of(response.headers))

    def _delete_object(self, key: str, headers: Mapping[str, str], query: Query = ()) -> str:
        response = self._send(self._request("DELETE", key, query=query, headers=headers))
        is_page = response.status == HTTPStatus.OK and response.content_type in _WEB_TYPES
        is_deleted = response.status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT) and not is_page
        if not is_deleted or response.body:
            raise InvalidResponseError(_describe(response))
        return _version_id_of(response.headers)

    def _list_objects_v2(self, query: Query) -> ListPage:
        response = self._send(self._request("GET", None, query=query), _MAX_LISTING_BYTES)
        try:
            return parse_listing(response.body, self.endpoint.bucket)
        except ValueError as error:
            raise InvalidResponseError(f"{_describe(response)}: {error}") from error

    def _list_object_versions(self, query: Query) -> VersionsPage:
        response = self._send(self._request("GET", None, query=query), _MAX_LISTING_BYTES)
        try:
            return parse_versions(response.body, self.endpoint.bucket)
        except ValueError as error:
            raise InvalidResponseError(f"{_describe(response)}: {error}") from error

    def _get_bucket_versioning(self) -> str:
        request = self._request("GET", None, query=(("versioning", ""),))
        response = self._send(request, _MAX_VERSIONING_BYTES)
        try:
            return parse_versioning(response.body)
        except ValueError as error:
            raise InvalidResponseError(f"{_describe(response)}: {error}") from error

    def _request(
        self,
        method: str,
        key: str | None,
        *,
        query: Query = (),
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes = b"",
    ) -> UnsignedRequest:
        """Without a key, it is a request to the bucket."""
        path = self.endpoint.path
        path = (path or "/") if key is None else f"{path}/{encode(key, safe='/')}"
        return UnsignedRequest(
            method, path, query, {**headers, "host": self.endpoint.authority}, body
        )

    def _send(self, request: UnsignedRequest, max_bytes: int = 1) -> Response:
        """Returns a successful response. Sends the request again if AWS rejects the credentials
        and there are newer ones.
        """
        generation = self._credentials.generation
        try:
            return self._exchange(request, max_bytes)
        except S3Error as error:
            if error.code not in STALE_CODES or not self._credentials.renew(generation):
                raise
        return self._exchange(request, max_bytes)

    def _exchange(self, request: UnsignedRequest, max_bytes: int) -> Response:
        credentials = self._credentials.get_frozen_credentials()
        if credentials is None:
            raise NoCredentialsError
        _require_sendable(credentials)
        headers = self._signer.sign_headers(request, credentials, time.time())
        query = f"?{encode_query(request.query)}" if request.query else ""
        response = self._pool.exchange(
            request.method, request.path + query, headers, request.body, max_bytes=max_bytes
        )
        if response.status not in _SUCCESSES:
            raise self._error_of(response)
        return response

    def _error_of(self, response: Response) -> RequestError:
        region = response.headers.get("x-amz-bucket-region", "")
        if response.status in _REDIRECTS:
            target = printable(response.headers.get("location", ""))[:_MAX_MESSAGE]
            return RedirectError(response.status, target, self._other_region(region))
        try:
            error = parse_error(response.body)
        except ValueError:
            if response.status == HTTPStatus.PRECONDITION_FAILED:
                return S3Error(response.status, "PreconditionFailed", "", "")
            return InvalidResponseError(_describe(response))
        return S3Error(
            response.status,
            printable(error.code)[:_MAX_MESSAGE],
            printable(error.message)[:_MAX_MESSAGE].rstrip("."),
            self._other_region(error.region or region),
        )

    def _other_region(self, region: str) -> str:
        return "" if region == self.endpoint.region else printable(region)[:_MAX_MESSAGE]

    def _retry_once(self, call: Callable[[], T], is_retryable: Callable[[RequestError], bool]) -> T:
        """Repeats a call after a retryable error. Once is enough, as kekd's clients retry too."""
        try:
            return call()
        except RequestError as error:
            if not is_retryable(error):
                raise
        self._on_retry()
        time.sleep(random.uniform(0, _MAX_RETRY_DELAY))  # noqa: S311
        return call()


def _require_sendable(credentials: ReadOnlyCredentials) -> None:
    """Raises `CredentialSourceError` for what can't be in a header."""
    for text in (credentials.access_key or "", credentials.token or ""):
        if not text.isascii() or not text.isprintable():
            raise CredentialSourceError(
                "an invalid character in the AWS credentials, for example a line break at the end",
                code="ValueError",
                may_pass=False,
            )


def _is_transient(error: RequestError) -> bool:
    return error.is_transient


def _is_unapplied(error: RequestError) -> bool:
    """Whether S3 certainly didn't apply a write, and may apply it at the next try."""
    is_refusal = isinstance(error, S3Error) and error.is_refusal
    return error.is_transient and not error.may_be_applied and not is_refusal


def _verify_body(response: Response, max_bytes: int) -> None:
    """Raises `ResponseLostError` if the body was truncated or damaged. If it has `max_bytes`, the
    rest wasn't read, and there is nothing to compare.
    """
    if response.is_whole:
        if not checksum.matches(response.headers, response.body):
            raise ResponseLostError("the body does not match its checksum")
    elif len(response.body) < max_bytes:
        raise ResponseLostError("it did not announce the length of the body")


def _version_id_of(headers: Mapping[str, str]) -> str:
    version_id = headers.get("x-amz-version-id", "")
    return "" if version_id == NULL_VERSION else version_id


def _unquote(etag: str) -> str:
    """Removes the quotes that HTTP puts around etags: ours are used in shells and JSON."""
    return etag.strip('"')


def _describe(response: Response) -> str:
    """Says what arrived, without its content, which may be a record."""
    kind = response.content_type or "no type"
    text = f"HTTP {response.status} {response.reason}, {kind}, {len(response.body)} bytes"
    server = response.headers.get("server")
    return printable(f"{text}, server {server}" if server else text)[:_MAX_MESSAGE]


def make_client(location: S3Location, *, on_retry: Callable[[], None] = lambda: None) -> S3Client:
    """Makes a client with credentials from AWS's default chain. It looks them up again if there
    were none, or if S3 responds that they have expired.

    Raises `StoreMisconfiguredError` if the bucket, region, profile, endpoint or CA is invalid.
    """
    endpoint = resolve(location)
    credentials = RenewableCredentials(lambda: _find_credentials(endpoint.region))
    return S3Client(endpoint, credentials, on_retry=on_retry)


def _find_credentials(region: str) -> Credentials | None:
    """Uses a new session, as a session caches what it reads."""
    session = botocore.session.Session()
    session.set_config_variable("region", region)  # for the STS endpoint that assumes a role
    return session.get_credentials()
