"""Derives a caller's identity from its client certificate."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from kekd_server.access.identity.spiffe import SpiffeIdError, spiffe_id
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.certificate_strength import key_weakness, signature_weakness
from kekd_server.model.errors import UnauthenticatedError

_UNREADABLE: Final = (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm)
"""What cryptography raises for some certificates that BoringSSL accepts, such as those with an
invalid extension."""

_MAX_KNOWN_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """The name is the first of these that the certificate has: its SPIFFE ID, its first DNS name,
    its first e-mail address, its common name. A SPIFFE certificate has exactly one SPIFFE ID
    (https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md).
    """

    name: str
    not_after: datetime

    def require_unexpired(self) -> None:
        """Raises `UnauthenticatedError` once the certificate has expired. gRPC checks that only at
        the beginning of a connection.
        """
        if self.not_after < datetime.now(UTC):
            raise UnauthenticatedError(
                f"the client certificate of {self.name} expired {self.not_after.isoformat()}; renew"
                " it and connect again"
            )


_known: Final = BoundedCache[bytes, CertificateIdentity](max_bytes=_MAX_KNOWN_BYTES)


def identity_from_certificate(pem: bytes) -> CertificateIdentity:
    """Expects a certificate that the handshake has verified. Raises `UnauthenticatedError`, also
    for weak keys and signatures that the handshake accepts.
    """
    identity = _known.get(pem)
    if identity is None:
        identity = _read(pem)
        _known.put(pem, identity, size=entry_bytes(pem, identity.name))
    return identity


def _read(pem: bytes) -> CertificateIdentity:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        _check_strength(certificate)
        name = _alternative_name(certificate) or _common_name(certificate)
    except _UNREADABLE as error:
        raise UnauthenticatedError(f"the client certificate cannot be read: {error}") from error
    if name:
        return CertificateIdentity(name, certificate.not_valid_after_utc)
    raise UnauthenticatedError(
        "the client certificate has no name; issue one with a SPIFFE ID, a DNS name, an e-mail"
        " address or a common name"
    )


def _check_strength(certificate: x509.Certificate) -> None:
    if weakness := key_weakness(certificate) or signature_weakness(certificate):
        raise UnauthenticatedError(f"the client certificate is too weak: {weakness}")


def _alternative_name(certificate: x509.Certificate) -> str | None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    if spiffe := _spiffe_id(names):
        _check_leaf(certificate)
        return spiffe
    found = [
        *(f"dns:{name}" for name in names.get_values_for_type(x509.DNSName)),
        *(f"email:{name}" for name in names.get_values_for_type(x509.RFC822Name)),
    ]
    return found[0] if found else None


def _spiffe_id(names: x509.SubjectAlternativeName) -> str | None:
    try:
        return spiffe_id(names.get_values_for_type(x509.UniformResourceIdentifier))
    except SpiffeIdError as error:
        raise UnauthenticatedError(f"the client certificate is invalid: {error}.") from None


def _check_leaf(certificate: x509.Certificate) -> None:
    """Rejects a SPIFFE certificate that may sign others: it identifies no workload."""
    for extension in certificate.extensions:
        value = extension.value
        if (isinstance(value, x509.BasicConstraints) and value.ca) or (
            isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign)
        ):
            raise UnauthenticatedError(
                "the client certificate is invalid: it has a SPIFFE ID and may sign others"
            )


def _common_name(certificate: x509.Certificate) -> str | None:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return f"cn:{names[0].value!s}" if names else None
