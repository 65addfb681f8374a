"""An HTTP/1.1 response, and its parser."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_MAX_HEAD_BYTES: Final = 1 << 16
_MAX_ERROR_BYTES: Final = 1 << 16


class Response(NamedTuple):
    status: int
    reason: str
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes
    is_whole: bool
    """Whether it has exactly the body that the server announced."""
    is_last: bool
    """Whether the connection can't be used for another request."""

    @property
    def content_type(self) -> str:
        """Without parameters; empty if there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class ResponseParser:
    """Parses the responses of one connection, one after the other. httptools calls its `on_`
    methods.
    """

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._start()

    def _start(self) -> None:
        self._reason = ""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._has_head = False
        self._is_complete = False
        self._is_last = False

    def feed(self, received: bytes, max_bytes: int) -> Response | None:
        """Returns the response once it is whole, or has `max_bytes` of the body of a success.
        Raises `HttpParserError`.
        """
        if not self._has_head:
            self._head_bytes += len(received)
        try:
            self._parser.feed_data(received)
        except HttpParserError:
            if not self._is_complete:
                raise
            self._is_last = True  # the server sent more than a response
        except HttpParserUpgrade as error:
            raise HttpParserError("it changed the protocol") from error
        if not self._has_head and self._head_bytes > _MAX_HEAD_BYTES:
            raise HttpParserError("the headers are too long")
        if self._is_complete or self._body_bytes >= self._limit(max_bytes):
            return self._take(max_bytes)
        return None

    def end(self, max_bytes: int) -> Response:
        """Returns the response that ends with the connection. Raises `ConnectionError` if some of
        it is missing.
        """
        if not self._has_head:
            raise ConnectionError("it closed the connection without a response")
        if "content-length" in self._headers or "transfer-encoding" in self._headers:
            raise ConnectionError(
                f"it closed the connection after {self._body_bytes} bytes of the body"
            )
        return self._take(max_bytes)

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise ValueError("a response without a request")

    def on_status(self, reason: bytes) -> None:
        self._reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, part: bytes) -> None:
        self._body.append(part)
        self._body_bytes += len(part)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < HTTPStatus.OK:
            self._start()  # an interim response
        else:
            self._is_complete = True
            self._is_last = not self._parser.should_keep_alive()

    def _limit(self, max_bytes: int) -> int:
        is_error = self._parser.get_status_code() >= HTTPStatus.MULTIPLE_CHOICES
        return _MAX_ERROR_BYTES if is_error else max_bytes

    def _take(self, max_bytes: int) -> Response:
        limit = self._limit(max_bytes)
        is_whole = self._is_complete and self._body_bytes <= limit
        response = Response(
            self._parser.get_status_code(),
            self._reason,
            self._headers,
            b"".join(self._body)[:limit],
            is_whole,
            self._is_last or not is_whole,
        )
        self._start()
        return response
