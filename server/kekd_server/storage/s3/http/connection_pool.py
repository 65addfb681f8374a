"""HTTP/1.1 connections to one S3 endpoint that are kept for further requests."""

import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from httptools import HttpParserError

from kekd_server.storage.s3.errors import ResponseLostError, describe
from kekd_server.storage.s3.http.connection import Connection, serialize_request
from kekd_server.storage.s3.http.connector import Connector
from kekd_server.storage.s3.http.endpoint import Endpoint
from kekd_server.storage.s3.http.exchange_reaper import ExchangeReaper
from kekd_server.storage.s3.http.response import Response

_IDLE_TIMEOUT: Final = 5.0
"""Less than the time after which S3, a proxy or a router may drop an idle connection."""


class _IdleConnection(NamedTuple):
    connection: Connection
    since: float
    """When it was used last, by the monotonic clock."""

    def is_expired(self) -> bool:
        return time.monotonic() - self.since > _IDLE_TIMEOUT

    def is_usable(self) -> bool:
        return not self.is_expired() and self.connection.is_open()


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
        headers = {**headers, **self._connector.headers}
        request = serialize_request(method, self._connector.request_target(path), headers, body)
        connection = self._take_idle() or self._connector.connect()
        try:
            self._reaper.watch(connection.socket)
            response = connection.exchange(request, max_bytes)
        except (OSError, HttpParserError) as error:
            connection.close()
            _close_all(self._idle)  # they may have ended in the same way
            raise ResponseLostError(describe(error)) from error
        except BaseException:
            connection.close()
            raise
        finally:
            self._reaper.forget(connection.socket)
        if response.is_last or len(self._idle) >= self._size:
            connection.close()
        else:
            self._idle.append(_IdleConnection(connection, time.monotonic()))
        self._close_expired()
        return response

    def _take_idle(self) -> Connection | None:
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


def _close_all(connections: deque[_IdleConnection]) -> None:
    while idle := _take(connections.pop):
        idle.connection.close()


def _take(pop: Callable[[], _IdleConnection]) -> _IdleConnection | None:
    """Returns None if there is none: other threads take connections at the same time."""
    try:
        return pop()
    except IndexError:
        return None
