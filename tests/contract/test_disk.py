import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from kekd_server.storage.disk import DiskDriver
from tests.contract.driver_contract import ALL, NAME, DriverContract, Harness


class DiskHarness(Harness):
    def __init__(self, root: Path) -> None:
        self.driver = DiskDriver(root)
        self._folder = root / "_catalog" / "config"

    def read(self, key: str) -> bytes | None:
        file = self._folder / key
        return file.read_bytes() if file.exists() else None

    def write(self, key: str, record: bytes) -> None:
        (self._folder / key).write_bytes(record)


class TestDiskDriver(DriverContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return DiskHarness(tmp_path)


def test_nothing_but_records_is_left_beside_the_records(tmp_path: Path) -> None:
    driver = DiskDriver(tmp_path)
    driver.create(NAME, b"1")
    driver.put(NAME, b"2", if_etag=None)
    (record,) = (tmp_path / "_catalog" / "config").iterdir()
    assert record.name == NAME.key
    assert not list((tmp_path / "_kekd" / "tmp").iterdir())


def test_folders_and_files_are_the_owners_alone(tmp_path: Path) -> None:
    DiskDriver(tmp_path / "new").create(NAME, b"1")
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}


def test_a_listing_reads_the_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = DiskHarness(tmp_path)
    for number in range(10):
        harness.write(f"{number}.kms.cat", b"1")
    reads = Mock(side_effect=os.listdir)
    monkeypatch.setattr(os, "listdir", reads)
    page = harness.driver.list(ALL, None, 3, listing="l")
    while len(page) == 3:
        page = harness.driver.list(ALL, page[-1], 3, listing="l")
    assert reads.call_count == 1
