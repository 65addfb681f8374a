"""An S3 server that sends the responses of a script, whole or not."""

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import pytest

BUCKET: Final = "scripted"


class Response(NamedTuple):
    content: bytes
    ending: Literal["none", "close", "reset", "stall", "drip"] = "none"

    def cut(self, missing: int, ending: Literal["close", "reset", "stall", "drip"]) -> "Response":
        """Returns a response without its last bytes."""
        return Response(self.content[: len(self.content) - missing], ending)


def http(status: str, body: str | bytes = b"", **headers: str) -> Response:
    """Underscores in the names of headers stand for hyphens."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"content_length": str(len(content)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return Response(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + content)


def stored(body: bytes, **headers: str) -> Response:
    """The response to a get of an object."""
    headers = {"etag": '"e"', "last_modified": "Sat, 28 Nov 2026 08:00:00 GMT", **headers}
    return http("200 OK", body, **headers)


def error(status: str, code: str, **headers: str) -> Response:
    return http(status, f"<Error><Code>{code}</Code><Message>why</Message></Error>", **headers)


def listing(*keys: str, bucket: str = BUCKET) -> Response:
    entries = "".join(
        f"<Contents><Key>{key}</Key><ETag>&quot;{key}&quot;</ETag>"
        "<LastModified>2026-11-28T08:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    return http(
        "200 OK",
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>",
    )


MISSING: Final = error("404 Not Found", "NoSuchKey")
PUT_DONE: Final = http("200 OK", etag='"new"')
DELETED: Final = http("204 No Content")
REFUSED: Final = error("412 Precondition Failed", "PreconditionFailed")


class ScriptedS3:
    """Sends the responses in their order, and then the last one again. No index is held: a get of a
    hold isn't part of the script.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._script: deque[Response] = deque()
        self.requests: list[str] = []
        """Of each request, method and target."""
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def play(self, *responses: Response) -> None:
        self._script = deque(responses)
        self.requests.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as received, suppress(OSError):
            while line := received.readline():
                head = b"".join(iter(received.readline, b"\r\n")).lower()
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                received.read(int(length or 0))
                response = self._respond(line.decode().rpartition(" ")[0])
                connection.sendall(response.content)
                if response.ending != "none":
                    _end(connection, response.ending)
                    break

    def _respond(self, request: str) -> Response:
        if request.startswith("GET") and "/_kekd/holds/" in request:
            return MISSING
        self.requests.append(request)
        return self._script.popleft() if len(self._script) > 1 else self._script[0]


def _end(connection: socket.socket, ending: str) -> None:
    while ending == "drip":  # until the client ends the connection
        connection.sendall(b"." * 64)  # a client refuses a line after 64 KiB
        time.sleep(0.01)
    if ending == "stall":
        connection.recv(1)  # until the client gives up
    if ending == "reset":
        # With a linger time of 0, close(2) sends a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def scripted_s3() -> Iterator[ScriptedS3]:
    server = ScriptedS3()
    yield server
    server.close()
