"""The record cache, with other writers that don't notify it."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from kekd_server.storage.disk import record_cache, timestamps
from kekd_server.storage.disk.record_cache import RecordCache
from kekd_server.storage.driver import MAX_RECORD_BYTES
from kekd_server.storage.etag import etag_of
from tests.patience import eventually

HOUR_NS = 3_600_000_000_000

WRITER = """
import os, random, sys, time
from pathlib import Path

path, progress, way = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
new = path.with_name("new")
number = 1
while True:
    number += 1
    record = b"%06d" % number
    if way == "overwrite":
        with path.open("r+b") as file:
            file.write(record)
    elif way == "remove and make":
        path.unlink()
        path.write_bytes(record)
    else:
        new.write_bytes(record)
        os.utime(new, ns=(0, 0))
        new.rename(path)
    with progress.open("r+b") as file:
        file.write(record)
    if random.random() < 0.2:
        time.sleep(random.choice((0.001, 0.25)))  # in which the file may become old
"""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows at every read of a file."""
    open_file = os.open
    reads: list[int] = []

    def counted(path: str, flags: int) -> int:
        reads.append(file := open_file(path, flags))
        return file

    monkeypatch.setattr(os, "open", counted)
    return reads


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as old, after a short wait, because a ctime can't be set."""
    monkeypatch.setattr(timestamps, "_RACY_NS", 20_000_000)
    path = tmp_path / "record"
    path.write_bytes(b"000001")
    wait_until_old(path)
    return path


def wait_until_old(path: Path) -> None:
    eventually(lambda: timestamps.is_settled(path.stat(), time.time_ns()))


def test_unchanged_file_is_read_once(path: Path, reads: list[int]) -> None:
    cache = RecordCache(path.parent)
    answers = [cache.read(path.name) for _ in range(10)]
    assert {answer.record for answer in answers} == {b"000001"}
    assert {answer.etag for answer in answers} == {etag_of(b"000001")}
    assert len(reads) == 1


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, MAX_RECORD_BYTES])
def test_file_of_any_length_is_read_completely(tmp_path: Path, size: int) -> None:
    path, record = tmp_path / "record", os.urandom(size)
    path.write_bytes(record)
    assert RecordCache(path.parent).read(path.name).record == record
    assert RecordCache(path.parent).read_without_eviction(path.name).record == record


def test_file_that_is_too_long_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(bytes(MAX_RECORD_BYTES + 1))
    assert len(RecordCache(path.parent).read(path.name).record) == MAX_RECORD_BYTES


def test_read_that_stops_early_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Returns a part, as read(2) does before a page that can't be read now."""
    path, record = tmp_path / "record", os.urandom(5000)
    path.write_bytes(record)
    read = os.read
    monkeypatch.setattr(os, "read", lambda file, most: read(file, min(most, 4096)))
    assert RecordCache(path.parent).read(path.name).record == record
    assert RecordCache(path.parent).read_without_eviction(path.name).record == record


def test_page_that_the_disk_cannot_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record"
    path.write_bytes(bytes(5000))
    parts: list[bytes | OSError] = [bytes(4096), OSError(errno.EIO, "Input/output error")]
    monkeypatch.setattr(os, "read", Mock(side_effect=parts))
    with pytest.raises(OSError, match="Input/output error"):
        RecordCache(path.parent).read(path.name)


def test_recently_changed_file_is_not_cached(
    path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timestamps, "_RACY_NS", HOUR_NS)
    cache = RecordCache(path.parent)
    path.write_bytes(b"000002")
    for _ in range(3):
        assert cache.read(path.name).record == b"000002"
    assert len(reads) == 3


def overwrite(path: Path) -> None:
    path.write_bytes(b"000002")


def overwrite_and_set_mtime_back(path: Path) -> None:
    path.write_bytes(b"000002")
    os.utime(path, ns=(0, 0))


def recreate(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"000002")


def replace_by_an_older_file(path: Path) -> None:
    path.with_name("other").replace(path)


@pytest.mark.parametrize(
    "change", [overwrite, overwrite_and_set_mtime_back, recreate, replace_by_an_older_file]
)
def test_change_is_seen_immediately(path: Path, change: Callable[[Path], None]) -> None:
    path.with_name("other").write_bytes(b"000002")
    os.utime(path, ns=(0, 0))
    wait_until_old(path)
    cache = RecordCache(path.parent)
    assert cache.read(path.name).record == b"000001"
    change(path)
    assert cache.read(path.name).record == b"000002"


@pytest.mark.parametrize(
    "change", [overwrite, overwrite_and_set_mtime_back, recreate, replace_by_an_older_file]
)
def test_stamp_of_a_changed_file_is_not_confirmed(
    path: Path, change: Callable[[Path], None]
) -> None:
    other = path.with_name("other")
    other.write_bytes(b"000002")
    os.utime(path, ns=(0, 0))
    wait_until_old(path)
    cache = RecordCache(path.parent)
    proof = cache.read(path.name).proof
    assert proof is not None
    cache.drop(path.name)
    assert cache.confirm(path.name, proof)
    names, proofs = [path.name, other.name, path.name, "none"], [proof, proof, None, proof]
    assert cache.confirm_all(names, proofs) == [True, False, False, False]
    change(path)
    assert not cache.confirm(path.name, proof)
    assert cache.confirm_all([path.name], [proof]) == [False]
    assert cache.hits == 1


def test_nothing_is_confirmed_in_another_folder_at_the_same_path(path: Path) -> None:
    folder = path.parent / "keystore"
    folder.mkdir()
    path = path.rename(folder / "record")
    wait_until_old(path)
    cache = RecordCache(folder)
    proofs = [cache.read(path.name).proof]
    assert cache.confirm_all([path.name], proofs) == [True]
    folder.rename(folder.with_name("moved"))
    assert cache.confirm_all([path.name], proofs) == [False]
    folder.mkdir()
    path.write_bytes(b"000001")
    assert cache.confirm_all([path.name], proofs) == [False]


def test_deleted_file_is_not_served(path: Path) -> None:
    cache = RecordCache(path.parent)
    cache.read(path.name)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        cache.read(path.name)


@pytest.mark.external
@pytest.mark.parametrize("way", ["overwrite", "remove and make", "replace, mtime set back"])
def test_reader_beside_a_busy_writer_never_sees_stale_content(
    path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    # The writer may be preempted in write(2), between the change of the times and of the content.
    monkeypatch.setattr(timestamps, "_RACY_NS", 200_000_000)
    progress = path.with_name("progress")
    progress.write_bytes(b"000001")
    cache, from_memory = RecordCache(path.parent), 0
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path, progress, way])
    try:
        while from_memory < 2000 or len(reads) < 2000:
            assert writer.poll() is None
            written, before = progress.read_bytes(), len(reads)
            try:
                record = cache.read(path.name).record
            except FileNotFoundError:
                assert way == "remove and make"
                continue
            assert record >= written or not record
            from_memory += len(reads) == before
    finally:
        writer.kill()
        writer.wait()


def test_cache_is_bounded(path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_cache, "_MAX_CACHE_BYTES", 2500)
    paths = [path.with_name(str(number)) for number in range(10)]
    for other in paths:
        other.write_bytes(b"1")
    wait_until_old(paths[-1])
    cache = RecordCache(path.parent)
    for other in paths:
        cache.read(other.name)
    assert cache._cached.size <= 2500
    assert cache.read(paths[-1].name).record == b"1"
    assert len(reads) == 10


def test_long_record_is_not_cached(path: Path, reads: list[int]) -> None:
    path.write_bytes(b"1" * 5000)
    wait_until_old(path)
    cache = RecordCache(path.parent)
    assert cache.read(path.name) == cache.read(path.name)
    assert len(reads) == 2


def test_file_on_a_network_filesystem_is_not_cached(
    path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "major", lambda _device: 0)
    cache = RecordCache(path.parent)
    assert cache.read(path.name) == cache.read(path.name)
    assert len(reads) == 2
