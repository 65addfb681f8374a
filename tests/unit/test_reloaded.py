"""No change of a file is missed, whenever it comes."""

from pathlib import Path

import pytest

from kekd_server.listen import TlsFiles
from kekd_server.reloaded import Reloaded
from kekd_server.tls import Certificates, Material
from tests.fixtures.tls import Authority


class Text(Reloaded[str]):
    """A file that is taken as it is, unless it says what is wrong with it."""

    unusable = ValueError

    def __init__(self, file: Path) -> None:
        super().__init__([file])
        self.current = self._read()

    def _read(self) -> str:
        text = self._files[0].read_text()
        if text.startswith("unusable"):
            raise ValueError(text)
        if text.startswith("surprising"):
            raise KeyError(text)
        return text

    def _described(self) -> str:
        return self.current


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("first")
    return file


def test_what_is_unusable_is_refused_once_and_left_for_what_was_there(file: Path) -> None:
    text = Text(file)
    file.write_text("unusable, so far")
    for _ in range(3):
        text.look()
    assert (text.current, text.refusals) == ("first", 1)
    file.write_text("second")
    text.look()
    assert (text.current, text.refusals) == ("second", 1)


def test_what_fails_in_another_way_is_tried_again(file: Path) -> None:
    text = Text(file)
    file.write_text("surprising")
    for _ in range(2):
        with pytest.raises(KeyError):
            text.look()


def test_certificates_that_are_replaced_as_they_are_first_read_are_seen(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = authority.issue(tmp_path / "first"), authority.issue(tmp_path / "second")
    read, serial = Material.read, second.serial

    def read_and_replace(files: TlsFiles) -> Material:
        material = read(files)
        monkeypatch.setattr(Material, "read", read)
        first.replace(second)
        return material

    monkeypatch.setattr(Material, "read", read_and_replace)
    certificates = Certificates(TlsFiles(first.cert, first.key, None))
    assert certificates.current.serial != serial
    certificates.look()
    assert certificates.current.serial == serial
