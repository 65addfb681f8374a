import pytest

from kekd_server.storage.history.retention import Retention
from kekd_server.storage.memory.driver import MemoryDriver
from tests.contract.driver_contract import NAME, DriverContract, Harness
from tests.contract.history_contract import REPEATS, KekdHistoryContract, ProtectionContract
from tests.contract.import_contract import ImportContract, refuses_without_a_history
from tests.fixtures.writes import create, delete


class MemoryHarness(Harness):
    def __init__(self) -> None:
        self.driver: MemoryDriver = MemoryDriver(Retention(versions=3))

    def read(self, key: str) -> bytes | None:
        return self.driver._records.get(key)

    def write(self, key: str, record: bytes) -> None:
        self.driver._records[key] = record
        self.driver._keys = sorted(self.driver._records)

    def remove(self, key: str) -> None:
        del self.driver._records[key]
        self.driver._keys.remove(key)


class TestMemoryDriver(DriverContract, KekdHistoryContract, ProtectionContract, ImportContract):
    @pytest.fixture
    def harness(self) -> Harness:
        return MemoryHarness()


def test_import_without_a_history_is_refused() -> None:
    refuses_without_a_history(MemoryDriver)


@pytest.mark.parametrize("write", REPEATS)
def test_no_other_write_comes_between_the_version_and_its_restoration(write: str) -> None:
    driver = MemoryDriver()
    create(driver, NAME, b"1")
    version_id = driver.list_versions(NAME, after="", limit=1)[0].id
    delete(driver, NAME, if_etag=None)
    locked: list[bool] = []
    REPEATS[write](driver, version_id, lambda *_: locked.append(driver._lock.locked()))
    assert locked == [True]
