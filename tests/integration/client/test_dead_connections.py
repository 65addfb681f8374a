"""Connections that die silently, and daemons that move."""

import threading

import pytest

import kekd
from kekd._transport import channel
from tests.fixtures.daemon import Daemon, both_engines
from tests.integration.client.blocking import OpenClient
from tests.integration.client.calls import BLOB
from tests.integration.client.name_server import NameServer
from tests.integration.fixtures.proxy import Proxy, StartProxy, delay, swallow_after
from tests.patience import PATIENCE, eventually


@pytest.fixture
def lost(proxy: Proxy) -> threading.Event:
    """Set it to make the proxy drop the bytes of its first connection."""
    lost = threading.Event()
    proxy.set_faults(swallow_after(lost))
    return lost


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_KEEPALIVE_INTERVAL", 0.3)
    monkeypatch.setattr(channel, "_KEEPALIVE_TIMEOUT", 0.3)


@both_engines
def test_call_over_a_dead_connection_succeeds_over_another(
    impatient: None, lost: threading.Event, distant: kekd.Client, index: str
) -> None:
    distant.push_index_kms(None, index, BLOB)
    lost.set()
    assert distant.get_index_kms(None, index, timeout=PATIENCE) == BLOB


@both_engines
def test_dead_connection_without_calls_is_closed(
    impatient: None, lost: threading.Event, distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    distant.push_index_kms(None, index, BLOB)
    lost.set()
    eventually(lambda: proxy.is_idle)


def test_new_client_does_not_share_the_dead_connection_of_another(
    open_client: OpenClient,
    lost: threading.Event,
    distant: kekd.Client,
    proxy: Proxy,
    index: str,
) -> None:
    distant.push_index_kms(None, index, BLOB)
    lost.set()
    with open_client(proxy.address) as other:
        assert other.get_index_kms(None, index, timeout=10) == BLOB


def test_slow_connection_succeeds_at_the_first_attempt(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    proxy.set_faults(then=delay(0.3))
    distant.push_index_kms(None, index, BLOB)
    assert proxy.connections == 1


@pytest.mark.filterwarnings("ignore:calling .* without TLS")
def test_host_with_a_new_ip_address_is_found(
    open_client: OpenClient,
    shared_daemon: Daemon,
    start_proxy: StartProxy,
    name_server: NameServer,
    index: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = Proxy(str(shared_daemon.socket), host="127.0.0.2")
    start_proxy(str(shared_daemon.socket), host="127.0.0.3", port=old.port)
    monkeypatch.setattr(
        channel, "grpc_target", lambda address: f"dns://127.0.0.1:{name_server.port}/{address}"
    )
    name_server.ip = "127.0.0.2"
    with open_client(f"kekd.test:{old.port}") as client:
        client.push_index_kms(None, index, BLOB)
        old.close()
        with pytest.raises(kekd.EnvelopeError):
            client.get_index_kms(None, index, timeout=0.2)
        name_server.ip = "127.0.0.3"
        assert client.get_index_kms(None, index, timeout=PATIENCE) == BLOB
