import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from kekd_server.storage.disk.page_cache import open_if_cached, read_if_cached
from tests.patience import eventually

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def opened(path: Path) -> int:
    """Tries again, because the kernel may refuse while other processes move files."""
    file: int | None = None

    def is_open() -> bool:
        nonlocal file
        file = open_if_cached(bytes(path))
        return file is not None

    eventually(is_open)
    assert file is not None
    return file


def content(file: int, max_bytes: int) -> bytes | None:
    """Returns what `read_if_cached` reads."""
    found = read_if_cached(file, max_bytes)
    if found is None:
        return None
    record, stat = found
    assert stat == os.fstat(file)
    return record


def test_file_in_memory_is_read(path: Path) -> None:
    file = opened(path)
    assert content(file, 100) == b"content"
    os.close(file)


def test_file_longer_than_the_buffer_returns_none(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    assert content(file, 7) == b"content"
    assert content(file, 6) is None
    os.close(file)


def test_file_that_is_only_partly_in_memory_returns_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 8 * PAGE
    with path.open("wb", buffering=0) as written:
        for _ in range(8):  # separately, as the kernel evicts the pages of one large write together
            written.write(b"\1" * PAGE)
        os.fsync(written)
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # no page is read ahead
    preadv = os.preadv
    lengths: list[int] = []

    def recorded_preadv(file: int, buffers: Sequence[bytearray], offset: int, flags: int) -> int:
        lengths.append(preadv(file, buffers, offset, flags))
        return lengths[-1]

    monkeypatch.setattr(os, "preadv", recorded_preadv)

    def read_a_part() -> bool:
        lengths.clear()
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(file, 4 * PAGE, 0)
        # One read only: a read that misses a page makes the kernel read it in the background.
        found = content(file, size)
        assert (found is None) == (lengths != [size])
        return lengths not in ([], [size])

    eventually(read_a_part)
    eventually(lambda: os.pread(file, size, 0) == content(file, size) == b"\1" * size)
    os.close(file)


def test_file_that_is_not_in_memory_returns_none(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)

    def is_evicted() -> bool:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return content(file, 100) is None

    eventually(is_evicted)
    eventually(lambda: os.pread(file, 100, 0) == content(file, 100) == b"content")
    os.close(file)


def test_path_that_is_no_readable_file_returns_none(tmp_path: Path) -> None:
    assert open_if_cached(bytes(tmp_path / "missing")) is None
    folder = opened(tmp_path)
    assert content(folder, 100) is None
    os.close(folder)
