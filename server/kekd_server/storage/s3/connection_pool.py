"""HTTP/1.1 connections to one S3 endpoint that are kept for further requests."""

import select
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import Final, NamedTuple

from kekd_server.storage.s3.connector import Connector
from kekd_server.storage.s3.endpoint import Endpoint
from kekd_server.storage.s3.errors import ResponseLostError, describe
from kekd_server.storage.s3.exchange_reaper import ExchangeReaper

_IDLE_TIMEOUT: Final = 5.0
"""Less than the time after which S3, a proxy or a router may drop an idle connection."""
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


class _IdleConnection(NamedTuple):
    connection: HTTPConnection
    since: float
    """When it was used last, by the monotonic clock."""

    def is_expired(self) -> bool:
        return time.monotonic() - self.since > _IDLE_TIMEOUT

    def is_usable(self) -> bool:
        return not self.is_expired() and _is_open(self.connection)


class ConnectionPool:
    """Keeps up to `size` connections, each for `_IDLE_TIMEOUT` after its last request. Repeats no
    request.
    """

    def __init__(self, endpoint: Endpoint, size: int) -> None:
        self._connector = Connector(endpoint)
        self._idle: deque[_IdleConnection] = deque()
        """The one used last is on the right."""
        self._size = size
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
        connection = self._take_idle() or self._connector.connect()
        try:
            self._reaper.watch(connection)
            connection.request(
                method,
                self._connector.request_target(path),
                body or None,
                {**headers, **self._connector.headers},
            )
            with connection.getresponse() as received:
                is_error = received.status >= HTTPStatus.MULTIPLE_CHOICES
                response = _read(received, _MAX_ERROR_BYTES if is_error else max_bytes)
                is_reusable = not received.will_close and response.is_whole
        except (OSError, HTTPException) as error:
            connection.close()
            _close_all(self._idle)  # they may have ended in the same way
            raise ResponseLostError(describe(error)) from error
        except BaseException:
            connection.close()
            raise
        finally:
            self._reaper.forget(connection)
        if is_reusable and len(self._idle) < self._size:
            self._idle.append(_IdleConnection(connection, time.monotonic()))
        else:
            connection.close()
        self._close_expired()
        return response

    def _take_idle(self) -> HTTPConnection | None:
        """Returns the connection used last. The server may have closed those used earlier."""
        while idle := _take(self._idle.pop):
            if idle.is_usable():
                return idle.connection
            idle.connection.close()
        return None

    def _close_expired(self) -> None:
        """Closes connections that later requests didn't need."""
        while oldest := _take(self._idle.popleft):
            if not oldest.is_expired():
                self._idle.appendleft(oldest)
                return
            oldest.connection.close()


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


def _close_all(connections: deque[_IdleConnection]) -> None:
    while idle := _take(connections.pop):
        idle.connection.close()


def _take(pop: Callable[[], _IdleConnection]) -> _IdleConnection | None:
    """Returns None if there is none: other threads take connections at the same time."""
    try:
        return pop()
    except IndexError:
        return None


def _is_open(connection: HTTPConnection) -> bool:
    """Whether the server hasn't closed an idle connection. Anything to read means that it has."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)
