"""The certificates of TLS listeners: read, checked, tried, and replaced while they are in use, by
new connections alone.
"""

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

_EARLY: Final = timedelta(days=7)
"""How long before the end a certificate that nobody renewed is warned of."""

_TRIAL_INTERVAL: Final = 60.0
"""gRPC logs lines of its own for each trial that fails."""
_ADVICE: Final = "take an RSA key of 2048 bits or more, or an ECDSA key on P-256 or P-384"
_SERVER_USAGES: Final = frozenset(
    {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
)

_log = logging.getLogger(__name__)


class TlsError(Exception):
    """The files can't be used; the text says which and why."""


class HandshakeError(Exception):
    """gRPC made no connection with these certificates; the text says what gRPC said of it."""


@dataclass(frozen=True, slots=True)
class Material:
    """What was in the files at one moment, and belongs together, in the form that gRPC reads."""

    cert: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    serial: int
    not_after: datetime
    ends: Mapping[Path, datetime]
    """Of each file, when it is of no more use."""
    host: str
    """A name of the daemon that a client would accept."""
    kind: str
    """Of the key, such as RSA-2048."""

    @classmethod
    def read(cls, files: TlsFiles) -> Self:
        """Raises `TlsError`."""
        chain = _certificates(files.cert)
        leaf = chain[0]
        key = _key(files, leaf)
        _check_leaf(files.cert, leaf)
        client_ca, ends = None, {files.cert: leaf.not_valid_after_utc}
        if files.client_ca:
            authorities = _certificates(files.client_ca)
            _check_authorities(files.client_ca, authorities)
            client_ca = _encoded(authorities)
            ends[files.client_ca] = max(it.not_valid_after_utc for it in authorities)
        return cls(
            cert=_encoded(chain),
            key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            client_ca=client_ca,
            serial=leaf.serial_number,
            not_after=leaf.not_valid_after_utc,
            ends=ends,
            host=_host(leaf),
            kind=_kind(leaf.public_key()),
        )

    def __str__(self) -> str:
        return f"certificate {self.serial:x}, which expires {self.not_after.isoformat()}"


Trial: TypeAlias = Callable[[Material], None]
"""Makes a connection with certificates as a client would. Raises `HandshakeError`."""


class Certificates(ReloadingFile[Material]):
    """What is in use of some files: nothing that a `trial` has failed with. Raises `TlsError` if
    there is nothing to begin with.
    """

    error_type = TlsError

    def __init__(self, files: TlsFiles, trial: Trial) -> None:
        self._of = files
        self._trial = trial
        self._tried: Material | None = None
        self._refusal = ""
        self._next_trial = 0.0
        self._warned: Material | None = None
        every = (files.cert, files.key, files.client_ca)
        super().__init__(it for it in every if it)
        self.current = self._read()
        _log.info("%s: %s", files.cert, self.current)

    def check(self, *, forced: bool = False) -> None:
        if forced:
            self._next_trial = 0.0
        super().check(forced=forced)
        if self._warned is not self.current and self.current.not_after - datetime.now(UTC) < _EARLY:
            self._warned = self.current
            _log.warning("%s: renew it: %s", self._of.cert, self.current)

    def _read(self) -> Material:
        material = Material.read(self._of)
        if material != self._tried or time.monotonic() > self._next_trial:
            self._refusal = self._failure(material)
            self._tried, self._next_trial = material, time.monotonic() + _TRIAL_INTERVAL
        if self._refusal:
            raise TlsError(self._refusal)
        return material

    def _failure(self, material: Material) -> str:
        """Why no handshake succeeds, or nothing."""
        try:
            self._trial(material)
        except HandshakeError as error:
            return (
                f"{self._of.cert}: no TLS handshake succeeds with this certificate and its"
                f" {material.kind} key ({error}): {_ADVICE}"
            )
        return ""

    def _describe(self) -> str:
        return str(self.current)


def _contents(path: Path) -> bytes:
    if problem := refusal(path):
        raise TlsError(problem)
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: can't be read: {error.strerror}") from error


def _blocks(path: Path, kind: bytes) -> bytes:
    try:
        return pem.normalized(_contents(path), kind)
    except ValueError as error:
        raise TlsError(f"{path}: not PEM: {error}") from error


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_blocks(path, pem.CERTIFICATE))
    except ValueError as error:
        raise TlsError(f"{path}: not certificates in PEM, or not all of them") from error


def _key(files: TlsFiles, certificate: x509.Certificate) -> PrivateKeyTypes:
    try:
        key = load_pem_private_key(_blocks(files.key, pem.PRIVATE_KEY), password=None)
        same = key.public_key() == certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsError(f"{files.key}: not a private key in PEM without a passphrase") from error
    if not same:
        raise TlsError(f"{files.key}: not the key of {files.cert}: are both from the same issue?")
    return key


def _encoded(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(it.public_bytes(Encoding.PEM) for it in certificates)


def _check_leaf(path: Path, leaf: x509.Certificate) -> None:
    problem = _out_of_time(leaf) or key_weakness(leaf) or _misuse(leaf)
    if problem:
        raise TlsError(f"{path}: {problem}")


def _check_authorities(path: Path, authorities: Sequence[x509.Certificate]) -> None:
    expired = [_out_of_time(it) for it in authorities]
    if all(expired):  # those that are over may well stay beside the new ones
        raise TlsError(f"{path}: {expired[0]}")
    for authority in authorities:
        if weakness := key_weakness(authority):
            raise TlsError(f"{path}: certificate {authority.serial_number:x}: {weakness}")


def _misuse(leaf: x509.Certificate) -> str | None:
    """Clients refuse a certificate that was issued for something else than servers."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    if _SERVER_USAGES.isdisjoint(usage):
        return "it isn't for servers: have it issued with the extended key usage serverAuth"
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


def _kind(key: PublicKeyTypes) -> str:
    match key:
        case rsa.RSAPublicKey():
            return f"RSA-{key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")


def _out_of_time(certificate: x509.Certificate) -> str | None:
    now, serial = datetime.now(UTC), f"{certificate.serial_number:x}"
    if certificate.not_valid_after_utc < now:
        return f"certificate {serial} expired {certificate.not_valid_after_utc.isoformat()}"
    if certificate.not_valid_before_utc > now:
        return f"certificate {serial} begins {certificate.not_valid_before_utc.isoformat()}"
    return None
