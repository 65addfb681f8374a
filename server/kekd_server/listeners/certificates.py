"""Loads, checks and reloads the certificates of TLS listeners. New connections use the new ones."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kekd_common import pem
from kekd_server.listeners.tcp import TlsFiles
from kekd_server.model.certificate_strength import key_weakness
from kekd_server.model.file_trust import refusal
from kekd_server.model.reloading_file import ReloadingFile

_WARNING_PERIOD: Final = timedelta(days=7)
"""How long before a certificate expires its owner is warned."""

_TRIAL_INTERVAL: Final = 60.0
"""Limits the log lines that gRPC writes for each failed trial."""
_KEY_ADVICE: Final = "use an RSA key of 2048 bits or more, or an ECDSA key on P-256 or P-384"
_SERVER_USAGES: Final = frozenset(
    {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
)

_log = logging.getLogger(__name__)


class TlsError(Exception):
    """A file can't be used. The text says which and why."""


class HandshakeError(Exception):
    """gRPC can't connect with the certificates. The text is gRPC's own."""


@dataclass(frozen=True, slots=True)
class TlsCredentials:
    """The content of the files, which belongs together, in the form that gRPC reads."""

    cert: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    serial: int
    not_after: datetime
    expirations: Mapping[Path, datetime]
    """When each file expires."""
    host: str
    """A name of the daemon that clients accept."""
    key_type: str
    """For example, RSA-2048."""

    @classmethod
    def read(cls, files: TlsFiles) -> Self:
        """Raises `TlsError`."""
        chain = _certificates(files.cert)
        leaf = chain[0]
        key = _key(files, leaf)
        _check_leaf(files.cert, leaf)
        client_ca, expirations = None, {files.cert: leaf.not_valid_after_utc}
        if files.client_ca:
            authorities = _certificates(files.client_ca)
            _check_authorities(files.client_ca, authorities)
            client_ca = _encode(authorities)
            expirations[files.client_ca] = max(ca.not_valid_after_utc for ca in authorities)
        return cls(
            cert=_encode(chain),
            key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            client_ca=client_ca,
            serial=leaf.serial_number,
            not_after=leaf.not_valid_after_utc,
            expirations=expirations,
            host=_host(leaf),
            key_type=_key_type(leaf.public_key()),
        )

    def __str__(self) -> str:
        return f"certificate {self.serial:x}, which expires {self.not_after.isoformat()}"


Trial: TypeAlias = Callable[[TlsCredentials], None]
"""Connects with the credentials as a client would. Raises `HandshakeError`."""


class Certificates(ReloadingFile[TlsCredentials]):
    """The credentials in use, with which a `trial` has succeeded. Raises `TlsError` if the first
    ones can't be used.
    """

    error_type = TlsError

    def __init__(self, files: TlsFiles, trial: Trial) -> None:
        self._tls_files = files
        self._trial = trial
        self._tried: TlsCredentials | None = None
        self._trial_error = ""
        self._next_trial = 0.0
        self._warned: TlsCredentials | None = None
        super().__init__(filter(None, (files.cert, files.key, files.client_ca)))
        self.current = self._read()
        _log.info("%s: %s", files.cert, self.current)

    def check(self, *, forced: bool = False) -> None:
        if forced:
            self._next_trial = 0.0
        super().check(forced=forced)
        remaining = self.current.not_after - datetime.now(UTC)
        if self._warned is not self.current and remaining < _WARNING_PERIOD:
            self._warned = self.current
            _log.warning("%s: %s; renew it", self._tls_files.cert, self.current)

    def _read(self) -> TlsCredentials:
        credentials = TlsCredentials.read(self._tls_files)
        if credentials != self._tried or time.monotonic() > self._next_trial:
            self._trial_error = self._try(credentials)
            self._tried, self._next_trial = credentials, time.monotonic() + _TRIAL_INTERVAL
        if self._trial_error:
            raise TlsError(self._trial_error)
        return credentials

    def _try(self, credentials: TlsCredentials) -> str:
        """Returns why no handshake succeeds, or an empty string."""
        try:
            self._trial(credentials)
        except HandshakeError as error:
            return (
                f"{self._tls_files.cert}: no TLS handshake succeeds with this certificate and its"
                f" {credentials.key_type} key ({error}); {_KEY_ADVICE}"
            )
        return ""

    def _describe(self) -> str:
        return str(self.current)


def _read_file(path: Path) -> bytes:
    if problem := refusal(path):
        raise TlsError(problem)
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(
            f"{path}: cannot be read: {error.strerror}; check its path and mode"
        ) from error


def _read_pem(path: Path, kind: bytes) -> bytes:
    try:
        return pem.normalized(_read_file(path), kind)
    except ValueError as error:
        raise TlsError(f"{path}: not PEM: {error}") from error


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read_pem(path, pem.CERTIFICATE))
    except ValueError as error:
        raise TlsError(
            f"{path}: not certificates in PEM, or not all of them; replace it"
        ) from error


def _key(files: TlsFiles, certificate: x509.Certificate) -> PrivateKeyTypes:
    try:
        key = load_pem_private_key(_read_pem(files.key, pem.PRIVATE_KEY), password=None)
        is_match = key.public_key() == certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsError(
            f"{files.key}: not a private key in PEM without a passphrase; convert it"
        ) from error
    if not is_match:
        raise TlsError(
            f"{files.key}: not the key of {files.cert}; use a certificate and a key that were"
            " issued together"
        )
    return key


def _encode(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _check_leaf(path: Path, leaf: x509.Certificate) -> None:
    problem = _validity_error(leaf) or key_weakness(leaf) or _misuse(leaf)
    if problem:
        raise TlsError(f"{path}: {problem}")


def _check_authorities(path: Path, authorities: Sequence[x509.Certificate]) -> None:
    expired = [_validity_error(authority) for authority in authorities]
    if all(expired):  # expired ones may remain beside new ones
        raise TlsError(f"{path}: {expired[0]}")
    for authority in authorities:
        if weakness := key_weakness(authority):
            raise TlsError(f"{path}: certificate {authority.serial_number:x}: {weakness}")


def _misuse(leaf: x509.Certificate) -> str | None:
    """Returns why clients would reject the certificate, or None."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    if _SERVER_USAGES.isdisjoint(usage):
        return "not a server certificate; issue it with the extended key usage serverAuth"
    return None


def _host(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(common[0].value) if common else ""
    hosts = [
        *(name.replace("*", "any", 1) for name in names.get_values_for_type(x509.DNSName)),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]
    return hosts[0] if hosts else ""


def _key_type(key: PublicKeyTypes) -> str:
    match key:
        case rsa.RSAPublicKey():
            return f"RSA-{key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")


def _validity_error(certificate: x509.Certificate) -> str | None:
    now, serial = datetime.now(UTC), f"{certificate.serial_number:x}"
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < now:
        return f"certificate {serial} expired {end.isoformat()}; renew it"
    if start > now:
        return f"certificate {serial} is not valid before {start.isoformat()}; check the clock"
    return None
