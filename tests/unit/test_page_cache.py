import os
from pathlib import Path

import pytest

from kekd_server.storage.page_cache import open_if_cached, read_if_cached


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_what_is_in_memory_is_read(path: Path) -> None:
    file = open_if_cached(str(path))
    assert file is not None
    assert read_if_cached(file, 100) == b"content"
    assert read_if_cached(file, 3) == b"con"
    os.close(file)


def test_what_is_only_on_the_disk_is_not_waited_for(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert read_if_cached(file, 100) is None
    assert os.read(file, 100) == b"content"
    assert read_if_cached(file, 100) == b"content"
    os.close(file)


def test_what_is_no_file_is_left_to_who_waits(tmp_path: Path) -> None:
    assert open_if_cached(str(tmp_path / "missing")) is None
    folder = open_if_cached(str(tmp_path))
    assert folder is not None
    assert read_if_cached(folder, 100) is None
    os.close(folder)
