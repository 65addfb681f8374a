"""The one name that is taken from a certificate."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kekd_server.errors import UnauthenticatedError
from kekd_server.identity import certified

SPIFFE = x509.UniformResourceIdentifier("spiffe://prod/ns/x/sa/db")
URI = x509.UniformResourceIdentifier("https://x.example/")
DNS, OTHER_DNS = x509.DNSName("x.example"), x509.DNSName("y.example")
EMAIL = x509.RFC822Name("x@y.example")


def certificate(*names: x509.GeneralName, cn: str = "", ends: float = 60) -> bytes:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else [])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(seconds=ends))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("names", "cn", "identity"),
    [
        ([DNS, EMAIL, URI, SPIFFE], "x", "spiffe://prod/ns/x/sa/db"),
        ([EMAIL, OTHER_DNS, DNS], "x", "dns:y.example"),
        ([EMAIL], "x", "email:x@y.example"),
        ([URI], "x", "cn:x"),
        ([], "x", "cn:x"),
    ],
)
def test_the_name_is_the_first_of_its_kinds(
    names: list[x509.GeneralName], cn: str, identity: str
) -> None:
    assert certified(certificate(*names, cn=cn)).name == identity


@pytest.mark.parametrize("names", [[], [URI]])
def test_a_certificate_without_a_name_is_nobodys(names: list[x509.GeneralName]) -> None:
    with pytest.raises(UnauthenticatedError, match="names nobody"):
        certified(certificate(*names))


def test_a_certificate_that_expired_during_the_connection_is_told() -> None:
    certified(certificate(DNS)).check_time()
    with pytest.raises(UnauthenticatedError, match=r"x\.example expired .*renew it"):
        certified(certificate(DNS, ends=-1)).check_time()
