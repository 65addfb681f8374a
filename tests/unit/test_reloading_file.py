"""Reloading files: an invalid file is logged once, and checked until it is valid."""

from pathlib import Path

import pytest

from kekd_server.listeners.certificates import Certificates, TlsCredentials
from kekd_server.listeners.tcp import TlsFiles
from kekd_server.model.reloading_file import ReloadingFile
from kekd_server.rpc.handshake import try_handshake
from tests.fixtures.tls import Authority


class Number(ReloadingFile[int]):
    error_type = ValueError

    def __init__(self, file: Path) -> None:
        super().__init__([file])
        self.current = 1
        self.reads = 0
        self.error_message = ""

    def _read(self) -> int:
        self.reads += 1
        if self.error_message:
            raise ValueError(self.error_message)
        return int(self._files[0].read_text())

    def _describe(self) -> str:
        return f"number {self.current}"


@pytest.fixture
def number(tmp_path: Path) -> Number:
    file = tmp_path / "number"
    file.write_text("1")
    return Number(file)


def replace(number: Number, text: str) -> None:
    file = number._files[0]
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


def test_failed_reload_counts_and_logs_once(
    number: Number, caplog: pytest.LogCaptureFixture
) -> None:
    number.error_message = "too early"
    replace(number, "22")
    for _ in range(3):
        number.check()
    assert (number.failed_reloads, number.current) == (1, 1)
    number.error_message = "too late"
    for _ in range(3):
        number.check()
    assert (number.failed_reloads, number.current) == (2, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "too early; still in use: number 1",
        "too late; still in use: number 1",
    ]


def test_file_that_becomes_valid_without_a_change_is_loaded(number: Number) -> None:
    """Like a certificate that becomes valid later, or a file that becomes readable."""
    number.error_message = "too early"
    replace(number, "22")
    number.check()
    number.error_message = ""
    number.check()
    assert number.current == 22


def test_valid_file_is_read_again_only_after_a_change(number: Number) -> None:
    number.error_message = "too early"
    replace(number, "22")
    number.check()
    number.error_message = ""
    for _ in range(3):
        number.check()
    assert number.reads == 2
    replace(number, "33")  # same length as before
    number.check()
    assert (number.reads, number.current) == (3, 33)


def test_unexpected_error_is_retried_at_the_next_check(number: Number) -> None:
    replace(number, "55")
    number.error_type = KeyError  # type: ignore[assignment,misc]
    number.error_message = "a surprise"
    for _ in range(2):
        with pytest.raises(ValueError, match="a surprise"):
            number.check()


def test_certificate_replaced_during_the_first_load_is_reloaded(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = authority.issue(tmp_path / "first"), authority.issue(tmp_path / "second")
    read, serial = TlsCredentials.read, second.serial

    def read_and_replace(files: TlsFiles) -> TlsCredentials:
        credentials = read(files)
        monkeypatch.setattr(TlsCredentials, "read", read)
        first.replace(second)
        return credentials

    monkeypatch.setattr(TlsCredentials, "read", read_and_replace)
    certificates = Certificates(TlsFiles(first.cert, first.key, None), try_handshake)
    assert certificates.current.serial != serial
    certificates.check()
    assert certificates.current.serial == serial
