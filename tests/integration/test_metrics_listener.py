"""Connections to the metrics address take bounded resources of the daemon."""

from collections.abc import Iterator
from contextlib import ExitStack
from socket import create_connection, socket
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from kekd_server.listeners.listener import parse
from kekd_server.listeners.tcp import TcpListener
from kekd_server.observability import metrics_server
from kekd_server.observability.metrics_server import MAX_CONNECTIONS, serve
from tests.fixtures.s3 import free_port
from tests.patience import PATIENCE


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> TcpListener:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 600.0)
    listener = parse(f"127.0.0.1:{free_port()}")
    assert isinstance(listener, TcpListener)
    serve(listener, CollectorRegistry())
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
    listener: TcpListener, silent: list[socket]
) -> None:
    with urlopen(f"http://{listener}/metrics", timeout=PATIENCE) as answer:
        assert answer.status == 200
    for oldest in silent[: 2 * MAX_CONNECTIONS]:
        assert oldest.recv(1) == b""
