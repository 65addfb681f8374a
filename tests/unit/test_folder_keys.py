"""An unchanged folder isn't read again, and a changed one always is."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from kekd_server.storage.disk import folder_keys, timestamps
from kekd_server.storage.disk.folder_keys import FolderKeys

EVERY = ("",)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Mock:
    reads = Mock(side_effect=os.listdir)
    monkeypatch.setattr(os, "listdir", reads)
    return reads


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stamp counts as old, and every folder as one on a disk of this machine."""
    monkeypatch.setattr(timestamps, "_RACY_NS", -(10**18))
    monkeypatch.setattr(os, "major", lambda _: 8)


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


@pytest.mark.usefixtures("settled")
def test_unchanged_folder_is_read_once(tmp_path: Path, reads: Mock) -> None:
    make(tmp_path, "b", "ab", "a", "é")
    keys = FolderKeys(tmp_path)
    assert keys.starting_with(EVERY) == ["a", "ab", "b", "é"]
    assert keys.starting_with(("a",)) == ["a", "ab"]
    assert keys.starting_with(("ab", "é")) == ["ab", "é"]
    assert keys.starting_with(("c",)) == []
    assert reads.call_count == 1


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", ["make", "rename", "remove"])
def test_changed_folder_is_read_again(tmp_path: Path, reads: Mock, change: str) -> None:
    make(tmp_path, "a", "b")
    os.utime(tmp_path, ns=(1, 1))  # differs from the time of the change, however coarse that is
    keys = FolderKeys(tmp_path)
    assert keys.starting_with(EVERY) == ["a", "b"]
    match change:
        case "make":
            make(tmp_path, "c")
        case "rename":
            (tmp_path / "a").rename(tmp_path / "b")
        case "remove":
            (tmp_path / "a").unlink()
    assert keys.starting_with(EVERY) == sorted(path.name for path in tmp_path.iterdir())


def test_recently_changed_folder_is_not_cached(tmp_path: Path, reads: Mock) -> None:
    make(tmp_path, "a")
    keys = FolderKeys(tmp_path)
    for _ in range(2):
        assert keys.starting_with(("a",)) == ["a"]
    assert reads.call_count == 2


@pytest.mark.usefixtures("settled")
def test_folder_on_a_network_or_with_too_many_files_is_not_cached(
    tmp_path: Path, reads: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a")
    keys = FolderKeys(tmp_path)
    monkeypatch.setattr(folder_keys, "_MAX_CACHED_KEYS", 0)
    keys.starting_with(EVERY)
    monkeypatch.setattr(folder_keys, "_MAX_CACHED_KEYS", 1)
    monkeypatch.setattr(os, "major", lambda _: 0)
    keys.starting_with(EVERY)
    keys.starting_with(EVERY)
    assert reads.call_count == 3


def test_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FolderKeys(tmp_path / "none").starting_with(EVERY)
