"""The S3 driver keeps its connections, and goes through a proxy."""

import itertools
import socket
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from unittest.mock import Mock

import pytest

from kekd_server.model.errors import EnvelopeNotFoundError, KekdError, StoreUnavailableError
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import make_client
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.http import connection_pool
from kekd_server.storage.s3.http.connection import Connection
from kekd_server.storage.s3.http.connection_pool import ConnectionPool
from kekd_server.storage.s3.http.endpoint import resolve
from tests.contract.driver_contract import NAME
from tests.contract.s3_operations import RECORD
from tests.contract.scripted_s3 import BUCKET, MISSING, ScriptedS3, http, stored
from tests.fixtures.s3 import REGION
from tests.patience import PATIENCE


def test_connection_that_the_server_closed_is_not_used_again(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    whole = stored(RECORD)
    scripted_s3.play(whole._replace(ending="close"))
    for _ in range(3):
        assert driver.get(NAME).record == RECORD
    assert len(scripted_s3.requests) == scripted_s3.connections == 3


def test_connection_is_kept(driver: S3Driver, scripted_s3: ScriptedS3) -> None:
    scripted_s3.play(stored(RECORD), MISSING, stored(RECORD))
    driver.get(NAME)
    with pytest.raises(EnvelopeNotFoundError):
        driver.get(NAME)
    driver.get(NAME)
    assert scripted_s3.connections == 1


def test_connection_that_was_idle_for_long_is_not_used_again(
    driver: S3Driver, scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "_IDLE_TIMEOUT", 0)
    scripted_s3.play(stored(RECORD))
    driver.get(NAME)
    driver.get(NAME)
    assert scripted_s3.connections == 2


@pytest.fixture
def pool(scripted_s3: ScriptedS3, aws_credentials: dict[str, str]) -> ConnectionPool:
    return ConnectionPool(resolve(S3Location(BUCKET, "", REGION, scripted_s3.endpoint)), 2)


def get(pool: ConnectionPool) -> bytes:
    return pool.exchange("GET", "/", {"host": "s3.example"}, b"", max_bytes=100).body


def test_connection_that_nothing_needs_is_closed_in_time(
    pool: ConnectionPool, scripted_s3: ScriptedS3
) -> None:
    scripted_s3.play(stored(RECORD))
    get(pool)
    unused = Mock(Connection)
    pool._idle.appendleft(connection_pool._IdleConnection(unused, float("-inf")))
    get(pool)
    assert unused.close.called
    assert scripted_s3.connections == 1


class RacingDeque(deque[Any]):
    """Lets two threads take the last item only when both are about to, and go on only when both
    have tried.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        super().__init__(items)
        self._both = threading.Barrier(2)
        self._calls = itertools.count()

    def pop(self) -> Any:  # type: ignore[override]  # as deque does
        if next(self._calls) >= self._both.parties:
            return super().pop()
        self._both.wait(PATIENCE)
        try:
            return super().pop()
        finally:
            self._both.wait(PATIENCE)


def test_last_idle_connection_serves_one_of_two_threads(
    pool: ConnectionPool, scripted_s3: ScriptedS3
) -> None:
    scripted_s3.play(stored(RECORD))
    get(pool)
    pool._idle = RacingDeque(pool._idle)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(get, [pool] * 2)) == [RECORD] * 2
    assert scripted_s3.connections == 2
    connection_pool._close_all(pool._idle)


HOSTS = pytest.mark.parametrize("host", ["s3.example", "[2001:db8::1]"])


@HOSTS
def test_request_through_a_proxy_names_the_whole_url(
    scripted_s3: ScriptedS3,
    aws_credentials: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
) -> None:
    monkeypatch.setenv("http_proxy", scripted_s3.endpoint)
    scripted_s3.play(stored(RECORD))
    location = S3Location(BUCKET, "", REGION, f"http://{host}:9000")
    S3Driver(make_client(location), location).get(NAME)
    key = f"_catalog/config/{NAME.key}"
    assert scripted_s3.requests == [f"GET http://{host}:9000/{BUCKET}/{key}"]


@HOSTS
def test_request_over_tls_through_a_proxy_opens_a_tunnel(
    scripted_s3: ScriptedS3,
    aws_credentials: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
) -> None:
    monkeypatch.setenv("https_proxy", scripted_s3.endpoint.replace("//", "//user:word@"))
    scripted_s3.play(http("407 Proxy Authentication Required")._replace(ending="close"))
    location = S3Location(BUCKET, "", REGION, f"https://{host}")
    with pytest.raises(StoreUnavailableError, match="407") as caught:
        S3Driver(make_client(location), location).get(NAME)
    assert set(scripted_s3.requests) == {f"CONNECT {host}:443"}
    assert "word" not in str(caught.value)


class Tunnel(StreamRequestHandler):
    """A proxy with one target, whatever its clients name."""

    server: "TunnelServer"

    def handle(self) -> None:
        while self.rfile.readline() != b"\r\n":
            pass
        with socket.create_connection(self.server.target) as upstream:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=relay, args=(upstream, self.connection), daemon=True).start()
            relay(self.connection, upstream)


class TunnelServer(ThreadingTCPServer):
    daemon_threads = True
    target: tuple[str, int]


def relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while received := source.recv(1 << 16):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("localhost", "404"),
        ("[::1]", "404"),
        ("s3.example", "certificate is not valid for 's3.example'"),
        ("[2001:db8::1]", "certificate is not valid for '2001:db8::1'"),
    ],
)
def test_certificate_is_verified_through_a_tunnel(
    private_https: str,
    aws_credentials: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    host: str,
    error: str,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca" / "ca.crt"))
    with TunnelServer(("127.0.0.1", 0), Tunnel) as proxy:
        proxy.target = ("127.0.0.1", int(private_https.rpartition(":")[2]))
        threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")
        location = S3Location(BUCKET, "", REGION, f"https://{host}")
        with pytest.raises(KekdError, match=error):
            S3Driver(make_client(location), location).get(NAME)
        proxy.shutdown()


def test_no_proxy_is_honoured(
    driver: S3Driver, scripted_s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    scripted_s3.play(stored(RECORD))
    location = S3Location(BUCKET, "", REGION, scripted_s3.endpoint)
    assert S3Driver(make_client(location), location).get(NAME).record == RECORD
