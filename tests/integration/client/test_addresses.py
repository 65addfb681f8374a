"""How a client finds its daemon."""

import os
from collections.abc import Iterator

import pytest

import kekd
from kekd import _api
from tests.fixtures.daemon import Daemon, both_engines
from tests.fixtures.s3 import free_port
from tests.integration.client.blocking import OpenClient
from tests.integration.client.calls import BLOB, OTHER
from tests.integration.fixtures.proxy import Proxy

pytestmark = both_engines


def test_every_form_of_an_address_connects(
    open_client: OpenClient, shared_daemon: Daemon, proxy: Proxy, index: str
) -> None:
    path = shared_daemon.socket
    relative = os.path.relpath(path)
    for address in (f"unix:{path}", f"unix://{path}", f"unix:{relative}", proxy.address):
        with open_client(address) as client:
            client.push_index_kms(None, index, BLOB)


@pytest.mark.parametrize("address", ["unix:", "localhost", "http://localhost:1", "localhost:x"])
def test_invalid_address_raises_in_the_constructor(address: str) -> None:
    for kind in (kekd.Client, kekd.AsyncClient):
        with pytest.raises(ValueError, match="use unix:PATH"):
            kind(address)


def test_client_without_an_address_uses_the_variable(
    open_client: OpenClient, shared_daemon: Daemon, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEKD_ADDRESS", shared_daemon.address)
    with open_client() as client:
        client.create_index_kms(None, index, BLOB)


@pytest.fixture
def fresh_functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module functions without a client, as in a new process."""
    monkeypatch.setattr(_api, "_shared", None)
    yield
    _api._client().close()


def test_module_functions_use_the_variable(
    fresh_functions: None, shared_daemon: Daemon, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEKD_ADDRESS", shared_daemon.address)
    etag = kekd.create_index_kms(None, index, BLOB)
    assert kekd.get_index_kms(None, index).etag == etag
    etag = kekd.push_index_kms(None, index, OTHER, if_etag=etag)
    assert list(kekd.list_index_kms(prefix=index)) == [index]
    assert kekd.delete_index_kms(None, index, if_etag=etag)


def test_connect_overrides_the_variable(
    fresh_functions: None, shared_daemon: Daemon, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEKD_ADDRESS", f"127.0.0.1:{free_port()}")
    client = kekd.connect(shared_daemon.address)
    kekd.create_index_kms(None, index, BLOB)
    assert client.get_index_kms(None, index) == BLOB
