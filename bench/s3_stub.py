"""Starts a server in another process that answers like S3 and computes little.

python -m bench.s3_stub ADDRESS SECONDS ENVELOPES

It keeps one bucket in memory, honours If-None-Match and If-Match, ignores signatures, and delays
each response like a network does. It has no other responses than kekd and boto3 need.
"""

import asyncio
import hashlib
import json
import sys
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from bench.keystore import envelope_of, name_of
from bench.process import Server, free_port, python, running
from kekd_schema import encode

BUCKET: Final = "bench"
_LISTINGS: Final = "/listings"
_RETURNED: Final = ("x-amz-meta-", "x-amz-checksum-crc32")
"""The headers of a PUT that a GET returns."""
_KEYSTORE: Final = "_kekd/keystore"


class Listing(NamedTuple):
    """A listing from its first page to its last."""

    start: float
    """By the monotonic clock, which all processes share."""
    end: float


@contextmanager
def on_loopback(folder: Path, delay: float, envelopes: int) -> Iterator[Server]:
    """Serves a keystore with the envelopes 0 to `envelopes` - 1."""
    address = f"127.0.0.1:{free_port()}"
    command = python("bench.s3_stub", address, str(delay), str(envelopes))
    with running(command, address, folder / f"s3-stub-{delay:g}.log") as server:
        yield server


def listings(server: Server) -> list[Listing]:
    """Returns the finished listings of more than one page."""
    connection = HTTPConnection(server.address)
    connection.request("GET", _LISTINGS)
    found = json.loads(connection.getresponse().read())
    connection.close()
    return [Listing(*times) for times in found]


def key_of(number: int) -> str:
    return f"_catalog/config/{name_of(number)}.kms.cat"


class _Object(NamedTuple):
    content: bytes
    etag: str
    head: bytes
    """The response to a GET, without the Date header."""
    entry: bytes
    """The element in a listing."""


class _Bucket:
    def __init__(self, envelopes: int) -> None:
        self.objects: dict[str, _Object] = {}
        self.listings: list[Listing] = []
        self._keys: list[str] = []
        self._listing_start = 0.0
        self.put(_KEYSTORE, b"", {})
        for number in range(envelopes):
            self.put(key_of(number), encode(envelope_of(number)), {})

    def put(self, key: str, content: bytes, headers: Mapping[str, str]) -> str:
        now = datetime.now(UTC)
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        returned = {name: text for name, text in headers.items() if name.startswith(_RETURNED)}
        head = {
            "ETag": etag,
            "Last-Modified": format_datetime(now, usegmt=True),
            "Content-Type": "binary/octet-stream",
            **returned,
        }
        entry = (
            f"<Contents><Key>{quote(key)}</Key><LastModified>{now:%Y-%m-%dT%H:%M:%S}.000Z"
            f"</LastModified><ETag>{etag.replace(chr(34), '&quot;')}</ETag>"
            f"<Size>{len(content)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
        if key not in self.objects:
            insort(self._keys, key)
        self.objects[key] = _Object(content, etag, _head(head), entry.encode())
        return etag

    def delete(self, key: str) -> None:
        if self.objects.pop(key, None):
            del self._keys[bisect_left(self._keys, key)]

    def list(self, query: Mapping[str, str]) -> bytes:
        prefix, size = query.get("prefix", ""), int(query.get("max-keys", "1000"))
        after = query.get("continuation-token") or query.get("start-after", "")
        start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        found = [key for key in self._keys[start : start + size + 1] if key.startswith(prefix)]
        page, more = found[:size], len(found) > size
        self._time_listing(is_first="continuation-token" not in query, is_last=not more)
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        return b"".join(
            (
                b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
                f"<Name>{BUCKET}</Name><Prefix>{quote(prefix)}</Prefix>".encode(),
                f"<MaxKeys>{size}</MaxKeys><KeyCount>{len(page)}</KeyCount>".encode(),
                b"<EncodingType>url</EncodingType>",
                f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token}".encode(),
                *(self.objects[key].entry for key in page),
                b"</ListBucketResult>",
            )
        )

    def _time_listing(self, *, is_first: bool, is_last: bool) -> None:
        """Other listings have one page, and may come between two pages."""
        if is_first and not is_last:
            self._listing_start = time.monotonic()
        elif is_last and not is_first:
            self.listings.append(Listing(self._listing_start, time.monotonic()))


class _Request(NamedTuple):
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class _Connection(asyncio.Protocol):
    def __init__(self, bucket: _Bucket, delay: float) -> None:
        self._bucket = bucket
        self._delay = delay
        self._received = b""
        self._headers: Mapping[str, str] | None = None
        """Those of the request whose body is arriving."""
        self._line = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._headers is None:
            head, separator, rest = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            self._received = rest
            self._line, *fields = head.decode("latin-1").split("\r\n")
            pairs = (field.partition(":") for field in fields)
            self._headers = {name.lower(): value.strip() for name, _, value in pairs}
            if "expect" in self._headers:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(self._received) >= int(self._headers.get("content-length", "0")):
            method, target, _ = self._line.split()
            request = _Request(method, target, self._headers, self._received)
            self._received, self._headers = b"", None
            self._respond(request)

    def _respond(self, request: _Request) -> None:
        response = _response(self._bucket, request)
        if self._delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self._delay, self._transport.write, response)
        else:
            self._transport.write(response)


def _response(bucket: _Bucket, request: _Request) -> bytes:
    path, _, query = request.target.partition("?")
    if path == _LISTINGS:
        return _whole("200 OK", {}, json.dumps(bucket.listings).encode())
    key = unquote(path).removeprefix(f"/{BUCKET}").lstrip("/")
    if not key:
        body = bucket.list(dict(parse_qsl(query, keep_blank_values=True)))
        return _whole("200 OK", {"Content-Type": "application/xml"}, body)
    stored = bucket.objects.get(key)
    if error := _error(request, stored):
        return error
    if request.method == "PUT":
        return _whole("200 OK", {"ETag": bucket.put(key, request.body, request.headers)})
    if request.method == "DELETE":
        bucket.delete(key)
        return b"HTTP/1.1 204 No Content\r\nDate: " + _date() + b"\r\n\r\n"
    assert stored is not None
    return b"".join(
        (
            b"HTTP/1.1 200 OK\r\n",
            stored.head,
            b"Date: %b\r\nContent-Length: %d\r\n\r\n" % (_date(), len(stored.content)),
            stored.content,
        )
    )


def _error(request: _Request, stored: _Object | None) -> bytes:
    """Returns an empty response if the condition holds and there is what the request needs."""
    if_match = request.headers.get("if-match")
    if stored is None and (request.method == "GET" or (if_match and request.method == "PUT")):
        return _failure("404 Not Found", "NoSuchKey")
    is_taken = stored is not None and "if-none-match" in request.headers
    if is_taken or (if_match and stored and stored.etag != if_match):
        return _failure("412 Precondition Failed", "PreconditionFailed")
    return b""


def _failure(status: str, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>{status}</Message></Error>"
    return _whole(status, {"Content-Type": "application/xml"}, body.encode())


def _whole(status: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    every = {**headers, "Date": _date().decode(), "Content-Length": str(len(body))}
    return b"".join((f"HTTP/1.1 {status}\r\n".encode(), _head(every), b"\r\n", body))


def _head(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {text}\r\n" for name, text in headers.items()).encode()


def _date() -> bytes:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()


async def serve(address: str, delay: float, envelopes: int) -> None:
    bucket = _Bucket(envelopes)
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(bucket, delay), host, int(port))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
