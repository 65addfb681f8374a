"""The certificates of TLS listeners: read, checked, and replaced while they are in use, by new
connections alone.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kekd_server.listen import TlsFiles
from kekd_server.reloaded import Reloaded

_EARLY: Final = timedelta(days=7)
"""How long before the end a certificate that nobody renewed is warned of."""

_log = logging.getLogger(__name__)


class TlsError(Exception):
    """The files can't be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Material:
    """What was in the files at one moment, and belongs together."""

    cert: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    serial: int
    not_after: datetime
    ends: Mapping[Path, datetime]
    """Of each file, when it is of no more use."""

    @classmethod
    def read(cls, files: TlsFiles) -> Self:
        """Raises `TlsError`."""
        cert, key = _contents(files.cert), _contents(files.key)
        leaf = _certificates(files.cert, cert)[0]
        _check_key(files, key, leaf)
        if trouble := _out_of_time(leaf):
            raise TlsError(f"{files.cert}: {trouble}")
        client_ca, ends = None, {files.cert: leaf.not_valid_after_utc}
        if files.client_ca:
            client_ca = _contents(files.client_ca)
            authorities = _certificates(files.client_ca, client_ca)
            troubles = [_out_of_time(it) for it in authorities]
            if all(troubles):  # those that are over may well stay beside the new ones
                raise TlsError(f"{files.client_ca}: {troubles[0]}")
            ends[files.client_ca] = max(it.not_valid_after_utc for it in authorities)
        return cls(cert, key, client_ca, leaf.serial_number, leaf.not_valid_after_utc, ends)

    def __str__(self) -> str:
        return f"certificate {self.serial:x}, which expires {self.not_after.isoformat()}"


class Certificates(Reloaded[Material]):
    """What is in use of some files. Raises `TlsError` if there is nothing to begin with."""

    unusable = TlsError

    def __init__(self, files: TlsFiles) -> None:
        self._of = files
        self._warned: Material | None = None
        every = (files.cert, files.key, files.client_ca)
        super().__init__(it for it in every if it)
        self.current = self._read()
        _log.info("%s: %s", files.cert, self.current)

    def look(self, *, asked: bool = False) -> None:
        super().look(asked=asked)
        if self._warned is not self.current and self.current.not_after - datetime.now(UTC) < _EARLY:
            self._warned = self.current
            _log.warning("%s: renew it: %s", self._of.cert, self.current)

    def _read(self) -> Material:
        return Material.read(self._of)

    def _described(self) -> str:
        return str(self.current)


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: can't be read: {error.strerror}") from error


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise TlsError(f"{path}: not certificates in PEM, or not all of them") from error


def _check_key(files: TlsFiles, pem: bytes, certificate: x509.Certificate) -> None:
    try:
        key = load_pem_private_key(pem, password=None)
        same = key.public_key() == certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsError(f"{files.key}: not a private key in PEM without a passphrase") from error
    if not same:
        raise TlsError(f"{files.key}: not the key of {files.cert}: are both from the same issue?")


def _out_of_time(certificate: x509.Certificate) -> str | None:
    now, serial = datetime.now(UTC), f"{certificate.serial_number:x}"
    if certificate.not_valid_after_utc < now:
        return f"certificate {serial} expired {certificate.not_valid_after_utc.isoformat()}"
    if certificate.not_valid_before_utc > now:
        return f"certificate {serial} begins {certificate.not_valid_before_utc.isoformat()}"
    return None
