"""Responses of S3 are parsed as they arrive, and nothing else is taken for one."""

from collections.abc import Iterable

import pytest
from httptools import HttpParserError

from kekd_server.storage.s3.http.connection import serialize_request
from kekd_server.storage.s3.http.response import Response, ResponseParser

MAX_BYTES = 100
WHOLE = b'HTTP/1.1 200 OK\r\nETag: "e" \r\nContent-Length: 4\r\n\r\nbody'
CHUNKED = (
    b'HTTP/1.1 200 OK\r\netag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n'
    b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
)
OFFER = WHOLE.replace(b"ETag", b"Connection: upgrade\r\nUpgrade: h2c\r\nETag")
INTERIM = b"HTTP/1.1 100 Continue\r\nx-interim: 1\r\n\r\n"


@pytest.fixture
def parser() -> ResponseParser:
    return ResponseParser()


def feed(parser: ResponseParser, parts: Iterable[bytes]) -> Response:
    responses = [parser.feed(part, MAX_BYTES) for part in parts]
    *missing, response = responses
    assert missing == [None] * len(missing)
    assert response is not None
    return response


@pytest.mark.parametrize("content", [WHOLE, CHUNKED, OFFER, INTERIM + WHOLE])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_response_is_whole_in_whatever_parts_it_arrives(
    parser: ResponseParser, content: bytes, size: int
) -> None:
    for _ in range(2):  # on one connection
        response = feed(parser, [content[at : at + size] for at in range(0, len(content), size)])
        assert (response.status, response.reason, response.body) == (200, "OK", b"body")
        assert response.headers["etag"] == '"e"'
        assert "x-interim" not in response.headers
        assert response.is_whole
        assert not response.is_last


def test_response_without_content_has_no_body(parser: ResponseParser) -> None:
    response = feed(parser, [b"HTTP/1.1 204 No Content\r\n\r\n"])
    assert response.is_whole
    assert not response.is_last
    assert not response.body


@pytest.mark.parametrize(
    "content",
    [
        WHOLE.replace(b"ETag", b"Connection: close\r\nETag"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WHOLE + b"more",
        WHOLE + WHOLE.replace(b"body", b"next"),
        WHOLE.replace(b"ETag", b"Connection: close\r\nETag") + b"more",
    ],
    ids=["connection: close", "HTTP/1.0", "more data", "another response", "data after close"],
)
def test_connection_of_the_response_is_not_used_again(
    parser: ResponseParser, content: bytes
) -> None:
    response = feed(parser, [content])
    assert response.body == b"body"
    assert response.is_whole
    assert response.is_last


@pytest.mark.parametrize(
    ("status", "kept"), [(b"200 OK", MAX_BYTES), (b"404 Not Found", 1 << 16)], ids=["200", "404"]
)
def test_rest_of_a_long_body_is_not_read(parser: ResponseParser, status: bytes, kept: int) -> None:
    head = b"HTTP/1.1 " + status + b"\r\nContent-Length: 1000000\r\n\r\n"
    response = feed(parser, [head, b"x" * (kept - 1), b"xx"])
    assert response.body == b"x" * kept
    assert not response.is_whole
    assert response.is_last


def test_long_body_that_arrives_at_once_is_not_whole(parser: ResponseParser) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BYTES + 1)
    response = feed(parser, [head + b"x" * (MAX_BYTES + 1)])
    assert response.body == b"x" * MAX_BYTES
    assert not response.is_whole
    assert response.is_last


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden"])
def test_body_without_a_length_ends_with_the_connection(
    parser: ResponseParser, status: bytes
) -> None:
    assert parser.feed(b"HTTP/1.1 " + status + b"\r\n\r\nbody", MAX_BYTES) is None
    response = parser.end(MAX_BYTES)
    assert response.body == b"body"
    assert not response.is_whole
    assert response.is_last


@pytest.mark.parametrize("content", [WHOLE, CHUNKED])
def test_response_that_ends_early_is_an_error(content: bytes) -> None:
    for length in range(len(content)):
        parser = ResponseParser()
        if length:
            assert parser.feed(content[:length], MAX_BYTES) is None
        with pytest.raises(ConnectionError, match="it closed the connection"):
            parser.end(MAX_BYTES)


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        WHOLE.replace(b"Content-Length: 4", b"Content-Length: 4\r\nContent-Length: 5"),
        CHUNKED.replace(b"\r\n2\r\n", b"\r\nxx\r\n", 1),
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nx-long: " + b"." * (1 << 16),
    ],
    ids=["SSH", "two lengths", "chunk", "upgrade", "long header"],
)
def test_anything_but_a_response_is_an_error(parser: ResponseParser, content: bytes) -> None:
    with pytest.raises(HttpParserError):
        parser.feed(content, MAX_BYTES)


@pytest.mark.parametrize("value", ['"e"\r\nx-other: 1', '"e"\n x', '"e"\r'])
def test_header_with_a_line_break_is_not_sent(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        serialize_request("GET", "/", {"if-match": value}, b"")


@pytest.mark.parametrize(
    ("method", "body", "end"),
    [
        ("GET", b"", b"\r\n\r\n"),
        ("PUT", b"", b"content-length: 0\r\naccept-encoding: identity\r\n\r\n"),
        ("PUT", b"body", b"content-length: 4\r\naccept-encoding: identity\r\n\r\nbody"),
    ],
)
def test_request_announces_its_body(method: str, body: bytes, end: bytes) -> None:
    request = serialize_request(method, "/k?q", {"host": "s3.example", "x-h": "\xe9"}, body)
    head = f"{method} /k?q HTTP/1.1\r\nhost: s3.example\r\nx-h: \xe9\r\n".encode("latin-1")
    assert request.startswith(head)
    assert request.endswith(end)
    assert (b"content-length" in request) == (method == "PUT")
