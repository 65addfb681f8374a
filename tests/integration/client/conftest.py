"""A client of either kind, on its own daemon or behind a proxy."""

from collections.abc import Iterator
from typing import cast

import pytest

import kekd
from kekd_server.listeners.engine import EngineName
from tests.fixtures.daemon import Daemon
from tests.integration.client.blocking import BlockingAsyncClient, OpenClient
from tests.integration.client.name_server import name_server
from tests.integration.client.scripted import Scripted
from tests.integration.fixtures.proxy import Proxy, StartProxy

__all__ = ["name_server"]


@pytest.fixture(params=[kekd.Client, BlockingAsyncClient], ids=["Client", "AsyncClient"])
def open_client(request: pytest.FixtureRequest) -> OpenClient:
    """Makes clients. Each test runs with both kinds."""
    return cast("OpenClient", request.param)


@pytest.fixture(scope="package")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory, engine: EngineName) -> Iterator[Daemon]:
    """A daemon with a memory store. All tests here share it; each has its own index."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), "--memory", engine=engine)
    daemon.wait()
    yield daemon
    daemon.kill()


@pytest.fixture(scope="module")
def shared_proxy(shared_daemon: Daemon, start_proxy: StartProxy) -> Proxy:
    return start_proxy(str(shared_daemon.socket))


@pytest.fixture
def client(open_client: OpenClient, shared_daemon: Daemon) -> Iterator[kekd.Client]:
    with open_client(shared_daemon.address) as client:
        yield client


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Iterator[Proxy]:
    """A proxy in front of the shared daemon."""
    yield shared_proxy
    shared_proxy.set_faults()
    shared_proxy.cut()


@pytest.fixture
def distant(open_client: OpenClient, proxy: Proxy) -> Iterator[kekd.Client]:
    """A client that reaches the shared daemon through the proxy."""
    with open_client(proxy.address) as client:
        yield client


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


@pytest.fixture
def index(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)
