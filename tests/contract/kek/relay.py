"""A relay before moto that records requests and expires credentials."""

import re
import socket
import threading
import urllib.parse
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE


class Relay(ThreadingHTTPServer):
    """Relays requests. Credentials from STS expire after `lifetime`."""

    daemon_threads = False  # `__exit__` waits for the threads, which would connect in later tests
    request_queue_size = 128

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urllib.parse.urlsplit(target).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.lifetime = HOUR
        """The lifetime of new credentials, in seconds."""
        self.refusal = b""
        """The answer of STS instead of credentials."""
        self.roles: list[dict[str, str]] = []
        """The arguments of each sts.AssumeRole."""
        self.requests: list[str] = []
        """The access key that signed each request to another service."""
        self.accepted = ""
        """The only access key that isn't rejected as expired. Empty accepts all."""
        self.refused = 0
        self.lock = threading.Lock()
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        for connection in self._connections:
            with suppress(OSError):  # the caller has closed it
                connection.shutdown(socket.SHUT_RD)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay

    def do_POST(self) -> None:
        relay = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        access_key, _, _, service, _ = self.headers["Authorization"].split("/")
        if service == "sts":
            with relay.lock:
                relay.roles.append(dict(urllib.parse.parse_qsl(body.decode())))
            if relay.refusal:
                self._answer(403, relay.refusal)
                return
        else:
            key = access_key.rpartition("=")[2]
            with relay.lock:
                relay.requests.append(key)
                relay.refused += relay.accepted not in {"", key}
            if relay.accepted not in {"", key}:
                self._answer(400, b'{"__type": "ExpiredTokenException", "message": "expired"}')
                return
        upstream = HTTPConnection(relay.target)
        upstream.request("POST", self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if service == "sts":
            end = datetime.now(UTC) + timedelta(seconds=relay.lifetime)
            content = re.sub(
                rb"(?<=<Expiration>)[^<]+", f"{end:%Y-%m-%dT%H:%M:%SZ}".encode(), content
            )
        self._answer(answer.status, content)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(BrokenPipeError):  # the caller gave up
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""
