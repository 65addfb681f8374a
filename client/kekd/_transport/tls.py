"""TLS credentials of a client, from PEM files that may be renewed at any time."""

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeAlias

from kekd_common import pem
from kekd_common.file_stamp import FileStamp, file_stamp

CA_VARIABLE: Final = "KEKD_CA"
CERT_VARIABLE: Final = "KEKD_CERT"
KEY_VARIABLE: Final = "KEKD_KEY"
SERVER_NAME_VARIABLE: Final = "KEKD_SERVER_NAME"

_CHECK_INTERVAL: Final = 1.0
"""Minimum seconds between two checks whether the files have changed."""

FilePath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The PEM files for calling a daemon over TLS.

    `ca` holds the certificates of the CAs that may issue the daemon's certificate. `cert` and `key`
    identify the client, if the daemon requires a client certificate. `server_name` is the name that
    the daemon's certificate must have, by default the host that is called. The next call uses files
    that were renewed.
    """

    ca: FilePath
    cert: FilePath | None = None
    key: FilePath | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if not self.ca:
            raise ValueError(
                "incomplete TLS options: ca is missing; pass the certificates of the CAs that may"
                " issue the daemon's certificate"
            )
        if bool(self.cert) != bool(self.key):
            raise ValueError("incomplete TLS options: cert and key need each other; pass both")

    @classmethod
    def from_options(
        cls,
        ca: FilePath | None,
        cert: FilePath | None,
        key: FilePath | None,
        server_name: str | None,
    ) -> Self | None:
        """Returns None if no option is set. Raises ValueError if some are missing."""
        if not (ca or cert or key or server_name):
            return None
        return cls(ca=ca or "", cert=cert or None, key=key or None, server_name=server_name or None)

    @classmethod
    def from_environment(cls) -> Self | None:
        """Reads KEKD_CA, KEKD_CERT, KEKD_KEY and KEKD_SERVER_NAME."""
        names = CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, SERVER_NAME_VARIABLE
        ca, cert, key, server_name = (os.environ.get(name) for name in names)
        try:
            return cls.from_options(ca, cert, key, server_name)
        except ValueError as error:
            raise ValueError(f"{', '.join(names[:3])}: {error}") from None


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
    # Imported here because most programs never need it and it imports slowly.
    import ssl  # noqa: PLC0415

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
