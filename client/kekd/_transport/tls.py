"""How a client proves who it is and knows the daemon, from files that are renewed."""

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeAlias

from kekd_common import pem

CA_VARIABLE: Final = "KEKD_CA"
CERT_VARIABLE: Final = "KEKD_CERT"
KEY_VARIABLE: Final = "KEKD_KEY"
SERVER_NAME_VARIABLE: Final = "KEKD_SERVER_NAME"

_LOOK_SECONDS: Final = 1.0
"""How often, at most, the files are looked at."""

FilePath: TypeAlias = str | os.PathLike[str]
Stamp: TypeAlias = list[tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The PEM files with which to call a daemon over TLS.

    `ca` has the certificates of those who vouch for the daemon's; `cert` and `key` are the client's
    own, where the daemon asks for them. `server_name` is what the daemon's certificate must name,
    in the place of the host that is called. Files that are renewed are taken up by the next call.
    """

    ca: FilePath
    cert: FilePath | None = None
    key: FilePath | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if not self.ca:
            raise ValueError("TLS needs a ca: the certificates of those who vouch for the daemon.")
        if bool(self.cert) != bool(self.key):
            raise ValueError("A cert needs its key, and a key its cert: give both.")

    @classmethod
    def chosen(
        cls,
        ca: FilePath | None,
        cert: FilePath | None,
        key: FilePath | None,
        server_name: str | None,
    ) -> Self | None:
        """None if none of them was. Raises ValueError if they are no whole."""
        if not (ca or cert or key or server_name):
            return None
        return cls(ca=ca or "", cert=cert, key=key, server_name=server_name)

    @classmethod
    def of_environment(cls) -> Self | None:
        """What the variables KEKD_CA, KEKD_CERT, KEKD_KEY and KEKD_SERVER_NAME say."""
        names = CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, SERVER_NAME_VARIABLE
        ca, cert, key, server_name = (os.environ.get(name) for name in names)
        try:
            return cls.chosen(ca, cert, key, server_name)
        except ValueError as error:
            raise ValueError(f"{', '.join(names[:3])}: {error}") from None


@dataclass(frozen=True, slots=True)
class Material:
    """What was in the files at one moment, and belongs together."""

    ca: bytes
    cert: bytes | None
    key: bytes | None = field(repr=False)
    server_name: str | None


class Files:
    """The material of a `Tls`, which is another object as soon as the files have another whole.

    Raises ValueError if there is nothing to begin with.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._looking = threading.Lock()
        self._stamp = _stamp(tls)
        self._material = _read(tls)
        self._next_look = time.monotonic() + _LOOK_SECONDS

    def current(self) -> Material:
        """Costs next to nothing, but for one call in a second."""
        if time.monotonic() > self._next_look and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._next_look = time.monotonic() + _LOOK_SECONDS
                self._looking.release()
        return self._material

    def _look(self) -> None:
        stamp = _stamp(self._tls)
        if stamp == self._stamp:
            return
        try:
            material = _read(self._tls)
        except ValueError:
            return  # half-written, perhaps: the next look will tell
        if _stamp(self._tls) == stamp:  # what was checked is what was read
            self._stamp = stamp
            if material != self._material:
                self._material = material


def _read(tls: Tls) -> Material:
    """Raises ValueError, which says which file can't be used."""
    # Imported here, as it takes long and most programs never need it.
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    written = _contents(tls.ca)
    try:
        ca = pem.normalized(written, pem.CERTIFICATE)
        context.load_verify_locations(cadata=ca.decode())
    except (ssl.SSLError, ValueError):
        raise ValueError(f"{tls.ca}: no certificates in PEM.") from None
    if not (tls.cert and tls.key):
        return Material(ca, None, None, tls.server_name)
    cert, key = _contents(tls.cert), _contents(tls.key)
    try:
        # In the form that gRPC reads, which is stricter than what Python's ssl checks here.
        cert, key = pem.normalized(cert, pem.CERTIFICATE), pem.normalized(key, pem.PRIVATE_KEY)
        context.load_cert_chain(tls.cert, tls.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"{tls.cert} and {tls.key} are no pair of a certificate and its key, in PEM and without"
            f" a passphrase: {error}."
        ) from None
    return Material(ca, cert, key, tls.server_name)


def _contents(path: FilePath) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{os.fspath(path)}: can't be read: {error.strerror}.") from error


def _stamp(tls: Tls) -> Stamp:
    """Differs whenever a file was written or replaced, also by way of a link."""
    return [_stat(path) for path in (tls.ca, tls.cert, tls.key) if path]


def _stat(path: FilePath) -> tuple[int, ...]:
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
