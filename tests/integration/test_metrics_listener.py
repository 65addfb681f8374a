"""Connections to the metrics address take bounded resources of the daemon."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection, socket
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from kekd_server.listeners.listener import parse
from kekd_server.listeners.tcp import TcpListener, TlsFiles
from kekd_server.observability import metrics_server
from kekd_server.observability.metrics_server import MAX_CONNECTIONS, serve
from kekd_server.observability.metrics_tls import MetricsTls
from kekd_server.observability.probes import Probes
from tests.fixtures.s3 import free_port
from tests.fixtures.tls import Authority
from tests.patience import PATIENCE


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    scheme: str = request.param
    return scheme


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def listener(
    monkeypatch: pytest.MonkeyPatch, scheme: str, authority: Authority, tmp_path: Path
) -> TcpListener:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 600.0)
    pair = authority.issue(tmp_path / "metrics")
    tls = TlsFiles(pair.cert, pair.key, None) if scheme == "https" else None
    listener = parse(f"127.0.0.1:{free_port()}", tls=tls)
    assert isinstance(listener, TcpListener)
    serve(listener, CollectorRegistry(), Probes(), MetricsTls(tls) if tls else None)
    return listener


@pytest.fixture
def silent(listener: TcpListener) -> Iterator[list[socket]]:
    """Idle connections, three times the limit."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(create_connection((listener.host, listener.port), timeout=PATIENCE))
            for _ in range(3 * MAX_CONNECTIONS)
        ]


def test_idle_connections_do_not_block_a_scrape(
    listener: TcpListener, silent: list[socket], scheme: str, authority: Authority
) -> None:
    context = ssl.create_default_context(cafile=str(authority.cert))
    url = f"{scheme}://{listener}/metrics"
    with urlopen(url, timeout=PATIENCE, context=context) as answer:
        assert answer.status == 200
    for oldest in silent[: 2 * MAX_CONNECTIONS]:
        assert oldest.recv(1) == b""
