from pathlib import Path

import pytest

from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import own_writes
from kekd_server.storage.disk.own_writes import OwnWrites

NAME, OTHER = IndexName("i"), IndexName("j")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"own")
    return file


def test_file_is_recognized_once_under_its_name(file: Path) -> None:
    writes = OwnWrites()
    writes.add(NAME, file.stat())
    assert not writes.take(OTHER, file.stat())
    assert writes.take(NAME, file.stat())
    assert not writes.take(NAME, file.stat())


def test_file_with_another_name_later_is_recognized(file: Path, tmp_path: Path) -> None:
    writes = OwnWrites()
    writes.add(NAME, file.stat())
    assert writes.take(NAME, file.rename(tmp_path / "renamed").stat())


def test_other_file_with_the_same_content_is_not_recognized(file: Path, tmp_path: Path) -> None:
    writes, other = OwnWrites(), tmp_path / "other"
    other.write_bytes(file.read_bytes())
    writes.add(NAME, file.stat())
    assert not writes.take(NAME, other.stat())


def test_file_that_was_written_to_is_not_recognized(file: Path) -> None:
    writes = OwnWrites()
    writes.add(NAME, file.stat())
    while file.stat().st_mtime_ns == writes._files[NAME.key][2]:  # the clock's tick
        file.write_bytes(b"foreign")
    assert not writes.take(NAME, file.stat())


def test_number_of_remembered_files_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_writes, "_MAX_WRITES", 3)
    writes = OwnWrites()
    for number in range(10):
        writes.add(IndexName(f"i{number}"), file.stat())
    assert len(writes._files) <= 3
