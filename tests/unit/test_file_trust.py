"""Finds files and folders that other users could change, and keys that they could read."""

import os
import stat
from pathlib import Path

import pytest

from kekd_server.listeners.certificates import TlsCredentials, TlsError
from kekd_server.listeners.tcp import TlsFiles
from kekd_server.model.file_trust import file_exposures, folder_exposures
from tests.fixtures.tls import Authority

UID, OTHER, ROOT = 1000, 1001, 0


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> "Finder":
    return Finder(monkeypatch)


class Finder:
    """Finds the exposures of a file or folder with a mode and an owner."""

    path = Path("/etc/kekd/it")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def _stat(self, mode: int, uid: int) -> None:
        found = os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))
        self._monkeypatch.setattr(Path, "stat", lambda _: found)

    def file(self, mode: int, uid: int = UID, *, is_secret: bool = False) -> list[tuple[bool, str]]:
        self._stat(stat.S_IFREG | mode, uid)
        found = file_exposures(self.path, UID, is_secret=is_secret)
        return [(exposure.is_refused, exposure.problem.partition(";")[0]) for exposure in found]

    def folder(self, mode: int, uid: int = UID) -> list[str]:
        self._stat(stat.S_IFDIR | mode, uid)
        found = list(folder_exposures(self.path, UID))
        assert not any(exposure.is_refused for exposure in found)
        return [exposure.problem.partition(";")[0] for exposure in found]


@pytest.mark.parametrize(
    ("mode", "uid"), [(0o600, UID), (0o644, UID), (0o640, ROOT), (0o444, ROOT)]
)
def test_file_writable_by_its_owner_alone_is_trusted(finder: Finder, mode: int, uid: int) -> None:
    assert finder.file(mode, uid) == []


def test_world_writable_file_is_refused(finder: Finder) -> None:
    assert finder.file(0o602) == [(True, "anyone can write to it")]


def test_file_of_another_user_or_writable_by_its_group_is_a_warning(finder: Finder) -> None:
    assert finder.file(0o660) == [(False, "its group can write to it")]
    assert finder.file(0o600, OTHER) == [(False, f"it belongs to user {OTHER}, who can change it")]


def test_world_readable_key_is_a_warning(finder: Finder) -> None:
    assert finder.file(0o640, is_secret=True) == []
    assert finder.file(0o644, is_secret=True) == [(False, "anyone can read this key")]


@pytest.mark.parametrize("path", [Path("/dev/null"), Path("/nowhere/at/all")])
def test_device_and_missing_file_are_not_judged(path: Path) -> None:
    assert list(file_exposures(path, UID)) == []


def test_folder_is_trusted_if_no_other_user_can_replace_its_files(finder: Finder) -> None:
    for mode, uid in ((0o700, UID), (0o755, ROOT), (0o2775, ROOT), (0o1777, ROOT)):
        assert finder.folder(mode, uid) == []
    assert finder.folder(0o777) == ["anyone can replace files in this folder"]
    assert finder.folder(0o755, OTHER) == [f"it belongs to user {OTHER}, who can change it"]


@pytest.mark.parametrize("which", ["cert", "key", "client_ca"])
def test_world_writable_certificates_are_refused(
    which: str, authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue(tmp_path / "pair")
    files = TlsFiles(pair.cert, pair.key, authority.cert)
    TlsCredentials.read(files)
    path = getattr(files, which)
    path.chmod(0o606)
    with pytest.raises(TlsError, match=f"{path}: anyone can write to it; run chmod o-w {path}"):
        TlsCredentials.read(files)
