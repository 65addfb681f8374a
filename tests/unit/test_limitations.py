"""The daemon finds out once what a store doesn't do, and logs it once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from kekd_server.model.errors import KekdError, StoreMisconfiguredError, StoreUnavailableError
from kekd_server.observability.metrics import Metrics
from kekd_server.storage import health
from kekd_server.storage.health import Health
from kekd_server.storage.location import MemoryLocation
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.registry import Stores
from kekd_server.storage.store import Store
from tests.unit.waiting import reached

LIMITATION = "the S3 server ignores If-Match"


class Limited(MemoryDriver):
    """Finds these results one after the other, or a limitation."""

    def __init__(self, *results: str | Exception) -> None:
        super().__init__()
        self._results = list(results)
        self.calls = 0

    def find_limitations(self) -> str:
        self.calls += 1
        result = self._results.pop(0) if self._results else LIMITATION
        if isinstance(result, Exception):
            raise result
        return result


class Unreachable(Limited):
    checks = 0

    def check(self) -> None:
        self.checks += 1
        raise StoreUnavailableError("it is down")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LIMITATIONS_INTERVAL", "_READ_CHECK_INTERVAL"):
        monkeypatch.setattr(health, name, 0.01)


async def nothing() -> None:
    pass


@asynccontextmanager
async def checking(driver: Limited) -> AsyncIterator[Health]:
    store = Store(MemoryLocation(), driver, threads=1)
    checked = Health(Stores([store]), Metrics())
    task = asyncio.create_task(checked.run(nothing))
    yield checked
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    store.close()


def warning_of(checked: Health) -> str:
    (store,) = checked.stores()
    return store.warning


async def test_limitation_is_reported_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    driver = Limited()
    async with checking(driver) as checked:
        assert warning_of(checked) == ""
        await reached(lambda: warning_of(checked) != "")
        assert warning_of(checked) == LIMITATION
    assert driver.calls == 1
    assert caplog.messages == [f"memory: {LIMITATION}"]
    assert caplog.records[0].levelno == logging.WARNING


async def test_store_with_a_limitation_is_healthy() -> None:
    async with checking(Limited()) as checked:
        await reached(lambda: warning_of(checked) != "")
        await reached(lambda: checked.stores()[0].healthy)


@pytest.mark.parametrize(
    ("error", "calls"),
    [(StoreUnavailableError("down"), 2), (StoreMisconfiguredError("read-only"), 1)],
)
async def test_check_that_fails_is_not_logged(
    error: KekdError, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is repeated only if that may help."""
    driver = Limited(error, "")
    async with checking(driver) as checked:
        await reached(lambda: "memory" in checked._warnings)
    assert (driver.calls, caplog.messages) == (calls, [])


async def test_store_that_does_not_answer_is_not_checked() -> None:
    driver = Unreachable()
    async with checking(driver):
        await reached(lambda: driver.checks > 2)
    assert driver.calls == 0
