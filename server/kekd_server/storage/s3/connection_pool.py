"""HTTP/1.1 connections to one S3 endpoint that are kept for further requests."""

import base64
import select
import ssl
import weakref
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    RemoteDisconnected,
)
from typing import Final, NamedTuple

from kekd_common.printable import printable
from kekd_server.storage.s3.endpoint import Endpoint, Proxy
from kekd_server.storage.s3.errors import ConnectError, ResponseLostError
from kekd_server.storage.s3.exchange_reaper import ExchangeReaper

_CONNECT_TIMEOUT: Final = 2.0
_READ_TIMEOUT: Final = 5.0
"""Seconds without a byte."""
_MAX_TEXT: Final = 300
_MAX_ERROR_BYTES: Final = 1 << 16
_CHUNK_BYTES: Final = 1 << 16


class Response(NamedTuple):
    status: int
    reason: str
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes
    is_whole: bool
    """Whether it has exactly the body that the server announced."""

    @property
    def content_type(self) -> str:
        """Without parameters; empty if there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class ConnectionPool:
    """Keeps up to `size` connections until it is closed or dropped. Repeats no request."""

    def __init__(self, endpoint: Endpoint, size: int) -> None:
        self._endpoint = endpoint
        self._idle: deque[HTTPConnection] = deque()
        self._size = size
        # A proxy tunnels TLS, but forwards plain HTTP, and sees its requests.
        self._forwarder = endpoint.proxy if endpoint.tls is None else None
        self._forwarder_headers = _proxy_authorization(self._forwarder) if self._forwarder else {}
        self._reaper = ExchangeReaper()
        self.close = weakref.finalize(self, _close_all, self._idle)

    def exchange(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        max_bytes: int,
    ) -> Response:
        """Sends a request and reads at most `max_bytes` of the body of a success.

        Raises `ConnectError` if the request was not sent, and `ResponseLostError` if it may have
        been and no whole response arrived.
        """
        connection = self._find_idle() or self._connect()
        try:
            self._reaper.watch(connection)
            connection.request(
                method,
                self._request_target(path),
                body or None,
                {**headers, **self._forwarder_headers},
            )
            with connection.getresponse() as received:
                is_error = received.status >= HTTPStatus.MULTIPLE_CHOICES
                response = _read(received, _MAX_ERROR_BYTES if is_error else max_bytes)
                is_reusable = not received.will_close and response.is_whole
        except (OSError, HTTPException) as error:
            connection.close()
            _close_all(self._idle)  # they may have ended in the same way
            raise ResponseLostError(_describe(error)) from error
        except BaseException:
            connection.close()
            raise
        finally:
            self._reaper.forget(connection)
        if is_reusable and len(self._idle) < self._size:
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def _find_idle(self) -> HTTPConnection | None:
        """Returns the connection used last. The server may have closed those used earlier."""
        while connection := _pop(self._idle):
            if _is_open(connection):
                return connection
            connection.close()
        return None

    def _connect(self) -> HTTPConnection:
        connection = self._new_connection()
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise ConnectError(_describe(error), is_tls=True) from error
        except (OSError, HTTPException) as error:
            raise ConnectError(_describe(error)) from error
        connection.sock.settimeout(_READ_TIMEOUT)
        return connection

    def _new_connection(self) -> HTTPConnection:
        endpoint, proxy = self._endpoint, self._endpoint.proxy
        host, port = (proxy.host, proxy.port) if proxy else (endpoint.host, endpoint.port)
        if endpoint.tls is None:
            return HTTPConnection(host, port, timeout=_CONNECT_TIMEOUT)
        connection = HTTPSConnection(host, port, timeout=_CONNECT_TIMEOUT, context=endpoint.tls)
        if proxy:
            connection.set_tunnel(endpoint.host, endpoint.port, _proxy_authorization(proxy))
        return connection

    def _request_target(self, path: str) -> str:
        """Returns the whole URL if a proxy forwards plain HTTP (RFC 9112, section 3.2.2)."""
        return self._endpoint.url + path if self._forwarder else path


def _read(received: HTTPResponse, max_bytes: int) -> Response:
    """Raises `IncompleteRead` if the connection ends before the announced length."""
    chunks: list[bytes] = []
    missing = max_bytes
    while missing and (chunk := received.read1(min(missing, _CHUNK_BYTES))):
        chunks.append(chunk)
        missing -= len(chunk)
    body = b"".join(chunks)
    if received.length and missing:
        raise IncompleteRead(body, received.length)
    is_announced = received.chunked or received.length is not None
    is_whole = is_announced and not received.length and missing > 0
    # A dict, because each lookup in an `email.message.Message` takes microseconds.
    headers = {name.lower(): value for name, value in received.headers.items()}
    return Response(received.status, received.reason, headers, body, is_whole)


def _close_all(connections: deque[HTTPConnection]) -> None:
    while connection := _pop(connections):
        connection.close()


def _pop(connections: deque[HTTPConnection]) -> HTTPConnection | None:
    """Returns None if there is none: other threads take connections at the same time."""
    try:
        return connections.pop()
    except IndexError:
        return None


def _is_open(connection: HTTPConnection) -> bool:
    """Whether the server hasn't closed an idle connection. Anything to read means that it has."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _proxy_authorization(proxy: Proxy) -> dict[str, str]:
    if not proxy.user:
        return {}
    token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {token}"}


def _describe(error: Exception) -> str:
    if isinstance(error, IncompleteRead):
        return f"it sent {len(error.partial)} bytes of the body and {error.expected} are missing"
    if isinstance(error, TimeoutError) and not error.args:
        return "timed out"
    if isinstance(error, HTTPException) and not isinstance(error, RemoteDisconnected):
        return f"invalid HTTP ({type(error).__name__})"  # its text may quote a record
    return printable(" ".join(str(error).split()))[:_MAX_TEXT] or type(error).__name__
