"""An HTTP/1.1 connection, and the requests on it."""

import ctypes
import select
import socket
from collections.abc import Mapping
from typing import Final

from kekd_server.storage.s3.http.response import Response, ResponseParser

_CHUNK_BYTES: Final = 1 << 16


class _PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


# Unlike `select.poll`, it keeps the interpreter, which other threads would take. It doesn't wait.
_poll: Final = ctypes.PyDLL(None).poll


class Connection:
    """Doesn't use `http.client`, which takes three times as long."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._parser = ResponseParser()

    def exchange(self, request: bytes, max_bytes: int) -> Response:
        """Sends a request and reads at most `max_bytes` of the body of a success. Raises
        `OSError`, and `HttpParserError` for an invalid response.
        """
        self.socket.sendall(request)
        while received := self.socket.recv(_CHUNK_BYTES):
            if response := self._parser.feed(received, max_bytes):
                return response
        return self._parser.end(max_bytes)

    def is_open(self) -> bool:
        """Whether the server hasn't closed an idle connection. Anything to read means that it
        has.
        """
        polled = _PollFd(self.socket.fileno(), select.POLLIN, 0)
        ready: int = _poll(ctypes.byref(polled), 1, 0)
        return not ready

    def close(self) -> None:
        self.socket.close()


def serialize_request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Raises ValueError for a header with a line break, which would begin another header."""
    values = "".join(headers.values())
    if "\r" in values or "\n" in values:
        raise ValueError("a header has a line break")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    if body or method == "PUT":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join((*lines, "accept-encoding: identity", "", "")).encode("latin-1") + body
