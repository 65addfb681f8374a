"""TLS credentials of a client, from PEM files that may be renewed at any time."""

import os
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kekd._transport.tls import FilePath, Tls
from kekd_common import pem
from kekd_common.file_stamp import FileStamp, file_stamp

_CHECK_INTERVAL: Final = 1.0
"""Minimum seconds between two checks whether the files have changed."""


@dataclass(frozen=True, slots=True)
class TlsCredentials:
    """The contents of the files of a `Tls`, all read at the same time."""

    ca: bytes
    cert: bytes | None
    key: bytes | None = field(repr=False)
    server_name: str | None


class CredentialsLoader:
    """Loads the PEM files and reloads them when they change.

    Each reload creates a new `TlsCredentials`. Keeps the current one while the new files are
    incomplete. Raises ValueError if the first load fails.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._checking = threading.Lock()
        self._stamp = _stamp(tls)
        self._credentials = _read(tls)
        self._next_check = time.monotonic() + _CHECK_INTERVAL

    def current(self) -> TlsCredentials:
        """Checks the files at most once per `_CHECK_INTERVAL`, so that calls stay cheap."""
        if time.monotonic() > self._next_check and self._checking.acquire(blocking=False):
            try:
                self._check()
            finally:
                self._next_check = time.monotonic() + _CHECK_INTERVAL
                self._checking.release()
        return self._credentials

    def _check(self) -> None:
        stamp = _stamp(self._tls)
        if stamp == self._stamp:
            return
        try:
            credentials = _read(self._tls)
        except ValueError:
            return  # perhaps half-written: the next check reads them again
        if _stamp(self._tls) == stamp:  # otherwise the files changed while they were read
            self._stamp = stamp
            if credentials != self._credentials:
                self._credentials = credentials


def _read(tls: Tls) -> TlsCredentials:
    """Raises ValueError, naming the file that can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    contents = _contents(tls.ca)
    try:
        ca = pem.normalized(contents, pem.CERTIFICATE)
        context.load_verify_locations(cadata=ca.decode())
    except (ssl.SSLError, ValueError):
        raise ValueError(
            f"cannot use {tls.ca}: no certificates found; it must contain PEM"
        ) from None
    if not (tls.cert and tls.key):
        return TlsCredentials(ca, None, None, tls.server_name)
    cert, key = _contents(tls.cert), _contents(tls.key)
    try:
        # In the form that gRPC reads, which is stricter than what Python's ssl checks here.
        cert, key = pem.normalized(cert, pem.CERTIFICATE), pem.normalized(key, pem.PRIVATE_KEY)
        context.load_cert_chain(tls.cert, tls.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"cannot use {tls.cert} and {tls.key}: {_describe(error)}; they must be a certificate"
            " and its key, in PEM and without a passphrase"
        ) from None
    return TlsCredentials(ca, cert, key, tls.server_name)


def _describe(error: Exception) -> str:
    """Returns the cause in plain words, instead of OpenSSL's."""
    if not isinstance(error, OSError):  # of which SSLError is one
        return str(error)
    is_mismatch = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
    return "the key is that of another certificate" if is_mismatch else "damaged, or encrypted"


def _contents(path: FilePath) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {os.fspath(path)}: {error.strerror}") from error


def _stamp(tls: Tls) -> list[FileStamp]:
    return [file_stamp(path) for path in (tls.ca, tls.cert, tls.key) if path]
