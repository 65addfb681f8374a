"""The certificates of TLS listeners: read, checked, and replaced while they are in use.

New files are taken whole or not at all: while the key doesn't belong to the certificate, or any of
the files can't be used, what was read before stays, and the log says so.
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
from kekd_server.stamp import Stamp, stamp

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


class Certificates:
    """What is in use of some files. Raises `TlsError` if there is nothing to begin with."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._stamp()
        self._trouble = ""
        self._warned = False
        self.refusals = 0
        """How often new files weren't taken."""
        self.current = Material.read(files)
        _log.info("%s: %s", files.cert, self.current)

    def look(self, *, asked: bool = False) -> None:
        """Reads the files if they changed, or are bad and may have become good, or if `asked`.

        It is told of each change once, whatever comes of it; of nothing at all only if asked.
        """
        stamp = self._stamp()
        changed = stamp != self._seen
        if changed or self._trouble or asked:
            try:
                material = Material.read(self._files)
            except TlsError as error:
                self._refuse(str(error), aloud=changed or asked)
            else:
                self._take(material, aloud=asked)
            self._seen = stamp
        self._warn_early()

    def _take(self, material: Material, *, aloud: bool) -> None:
        self._trouble = ""
        if material != self.current:
            self.current = material
            self._warned = False
            _log.info("%s: new connections get %s", self._files.cert, material)
        elif aloud:
            _log.info("%s: nothing new: %s", self._files.cert, material)

    def _refuse(self, trouble: str, *, aloud: bool) -> None:
        if aloud or trouble != self._trouble:
            self.refusals += 1
            _log.error("%s; still in use: %s", trouble, self.current)
        self._trouble = trouble

    def _warn_early(self) -> None:
        if not self._warned and self.current.not_after - datetime.now(UTC) < _EARLY:
            self._warned = True
            _log.warning("%s: renew it: %s", self._files.cert, self.current)

    def _stamp(self) -> list[Stamp]:
        files = self._files
        return [stamp(path) for path in (files.cert, files.key, files.client_ca) if path]


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
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsError(f"{files.key}: not a private key in PEM without a passphrase") from error
    if key.public_key() != certificate.public_key():
        raise TlsError(f"{files.key}: not the key of {files.cert}: are both from the same issue?")


def _out_of_time(certificate: x509.Certificate) -> str | None:
    now, serial = datetime.now(UTC), f"{certificate.serial_number:x}"
    if certificate.not_valid_after_utc < now:
        return f"certificate {serial} expired {certificate.not_valid_after_utc.isoformat()}"
    if certificate.not_valid_before_utc > now:
        return f"certificate {serial} begins {certificate.not_valid_before_utc.isoformat()}"
    return None
