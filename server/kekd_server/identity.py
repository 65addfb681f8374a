"""The name that a client certificate proves."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from kekd_server.errors import UnauthenticatedError


@dataclass(frozen=True, slots=True)
class CertifiedIdentity:
    """Its name is the SPIFFE ID, a DNS name, an e-mail address or the common name: the first of
    these that the certificate has, and of several the first, which a policy can then name. A SPIFFE
    certificate has just one
    (https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md).
    """

    name: str
    not_after: datetime

    def check_time(self) -> None:
        """Raises `UnauthenticatedError` once the certificate has expired: gRPC looks at that only
        when a connection begins, and connections last.
        """
        if self.not_after < datetime.now(UTC):
            raise UnauthenticatedError(
                f"The client certificate of {self.name} expired {self.not_after.isoformat()}:"
                " renew it and connect anew."
            )


@lru_cache(maxsize=1024)
def certified(pem: bytes) -> CertifiedIdentity:
    """Of a certificate that the handshake has verified. Raises `UnauthenticatedError`."""
    certificate = x509.load_pem_x509_certificate(pem)
    if name := _alternative_name(certificate) or _common_name(certificate):
        return CertifiedIdentity(name, certificate.not_valid_after_utc)
    raise UnauthenticatedError(
        "The client certificate names nobody: it needs a SPIFFE ID, a DNS name, an e-mail address"
        " or a common name."
    )


def _alternative_name(certificate: x509.Certificate) -> str | None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    found = [
        *(uri for uri in uris if uri.startswith("spiffe://")),
        *(f"dns:{name}" for name in names.get_values_for_type(x509.DNSName)),
        *(f"email:{name}" for name in names.get_values_for_type(x509.RFC822Name)),
    ]
    return found[0] if found else None


def _common_name(certificate: x509.Certificate) -> str | None:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return f"cn:{names[0].value!s}" if names else None
