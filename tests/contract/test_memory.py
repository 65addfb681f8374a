import pytest

from kekd_server.storage.memory import MemoryDriver
from tests.contract.driver_contract import DriverContract, Harness


class MemoryHarness(Harness):
    def __init__(self) -> None:
        self.driver: MemoryDriver = MemoryDriver()

    def read(self, key: str) -> bytes | None:
        return self.driver._records.get(key)

    def write(self, key: str, record: bytes) -> None:
        self.driver._records[key] = record
        self.driver._keys = sorted(self.driver._records)


class TestMemoryDriver(DriverContract):
    @pytest.fixture
    def harness(self) -> Harness:
        return MemoryHarness()
