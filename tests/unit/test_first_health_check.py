"""The health service starts with the result of the first checks, unless a store hangs."""

from threading import Event
from typing import Any

import pytest

from kekd_server.model.errors import StoreUnavailableError
from kekd_server.observability.metrics import Metrics
from kekd_server.rpc import health
from kekd_server.rpc.health import HealthService, Response
from kekd_server.storage.health import Health
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.registry import Stores
from kekd_server.storage.store import Store
from tests.patience import PATIENCE
from tests.unit.waiting import reached

SERVICE = "kekd.v1.EnvelopeService"


class Down(MemoryDriver):
    def check(self) -> None:
        raise StoreUnavailableError("it is down")


class Hanging(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.released = Event()

    def check(self) -> None:
        assert self.released.wait(PATIENCE)


async def started(store: Store) -> HealthService:
    unused: Any = None
    service = HealthService(Health(Stores([store]), Metrics()), unused, unused)
    await service.start()
    return service


@pytest.mark.parametrize(
    ("driver", "status"),
    [(MemoryDriver(), Response.SERVING), (Down(), Response.NOT_SERVING)],
    ids=["healthy", "down"],
)
async def test_start_waits_for_the_first_check(
    driver: MemoryDriver, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_FIRST_CHECK_TIMEOUT", PATIENCE)
    store = Store(MemoryLocation(), driver, threads=1)
    service = await started(store)
    assert service.status_of(SERVICE, None) == status
    await service.drain()
    store.close()


async def test_start_does_not_wait_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_FIRST_CHECK_TIMEOUT", 0.01)
    driver = Hanging()
    store = Store(MemoryLocation(), driver, threads=1)
    service = await started(store)
    assert service.status_of(SERVICE, None) == Response.NOT_SERVING
    driver.released.set()
    await reached(lambda: service.status_of(SERVICE, None) == Response.SERVING)
    await service.drain()
    store.close()
