"""The identity in a certificate."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

from kekd_server.access.identity.certificate_identity import identity_from_certificate
from kekd_server.model.errors import UnauthenticatedError

SPIFFE = x509.UniformResourceIdentifier("spiffe://prod/ns/x/sa/db")
URI = x509.UniformResourceIdentifier("https://x.example/")
OTHER_URI = x509.UniformResourceIdentifier("urn:x")
DNS, OTHER_DNS = x509.DNSName("x.example"), x509.DNSName("y.example")
EMAIL = x509.RFC822Name("x@y.example")
# openssl req -x509 -sha1 -subj /CN=x -addext subjectAltName=DNS:x.example: cryptography refuses to.
SIGNED_WITH_SHA1 = b"""\
-----BEGIN CERTIFICATE-----
MIIBgjCCASqgAwIBAgIUHt8h7YBSk0/MPJVFX+EsV+NXBhgwCQYHKoZIzj0EATAM
MQowCAYDVQQDDAF4MCAXDTI2MTEyODAzMjIyN1oYDzIxMjYxMTA0MDMyMjI3WjAM
MQowCAYDVQQDDAF4MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEuU9BcVZxpFgW
KZLdLHT/uCV6T40ul++cGoWruyR0uPpUwlpCD1m1osZeGetq0a/Snmlhh+gtebQU
g10TXt7dGaNpMGcwHQYDVR0OBBYEFH5bmMRNwYCIqPOkg8yK8d1UEem5MB8GA1Ud
IwQYMBaAFH5bmMRNwYCIqPOkg8yK8d1UEem5MA8GA1UdEwEB/wQFMAMBAf8wFAYD
VR0RBA0wC4IJeC5leGFtcGxlMAkGByqGSM49BAEDRwAwRAIgQYNH0KXLxpf53YUd
5f6JQ00T/qBOX9m5deTLFKXAbfECIADmtkCsFqr7ymchYKDHOXdWSmMS1/Wh8ZCr
DGG4OQRR
-----END CERTIFICATE-----
"""


def certificate(
    *names: x509.GeneralName,
    cn: str = "",
    ends: float = 60,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    extension: x509.ExtensionType | None = None,
) -> bytes:
    key, now = key or ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else [])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(seconds=ends))
    )
    if extension:
        builder = builder.add_extension(extension, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def refusal(pem: bytes) -> str:
    with pytest.raises(UnauthenticatedError) as refused:
        identity_from_certificate(pem)
    return str(refused.value)


@pytest.mark.parametrize(
    ("names", "cn", "identity"),
    [
        ([DNS, EMAIL, SPIFFE], "x", "spiffe://prod/ns/x/sa/db"),
        ([URI, OTHER_URI, DNS], "x", "dns:x.example"),
        ([EMAIL, OTHER_DNS, DNS], "x", "dns:y.example"),
        ([EMAIL], "x", "email:x@y.example"),
        ([URI], "x", "cn:x"),
        ([], "x", "cn:x"),
    ],
)
def test_name_is_the_first_of_its_kinds(
    names: list[x509.GeneralName], cn: str, identity: str
) -> None:
    assert identity_from_certificate(certificate(*names, cn=cn)).name == identity


@pytest.mark.parametrize("names", [[], [URI]])
def test_certificate_without_a_name_is_refused(names: list[x509.GeneralName]) -> None:
    with pytest.raises(UnauthenticatedError, match="has no name"):
        identity_from_certificate(certificate(*names))


def test_expired_certificate_is_refused_during_the_connection() -> None:
    identity_from_certificate(certificate(DNS)).require_unexpired()
    with pytest.raises(UnauthenticatedError, match=r"x\.example expired .*renew it"):
        identity_from_certificate(certificate(DNS, ends=-1)).require_unexpired()


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://prod/db",
        "spiffe://prod-1.example_x/a.b/c-d_e/F",
        "spiffe://10.0.0.1/x",
        f"spiffe://{'d' * 255}/x",
        f"spiffe://prod/{'x' * (2048 - len('spiffe://prod/'))}",
        "spiffe://prod/.../..a",
    ],
)
def test_spiffe_id_of_the_specification_is_the_name(uri: str) -> None:
    assert identity_from_certificate(certificate(x509.UniformResourceIdentifier(uri))).name == uri


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("spiffe://prod/a/../db", "segment '..'"),
        ("spiffe://prod/./db", "segment '.'"),
        ("spiffe://prod//db", "segment ''"),
        ("spiffe://prod/db/", "segment ''"),
        ("spiffe://prod/", "segment ''"),
        ("spiffe://prod", "no path"),
        ("spiffe://prod/db?x=1", "other characters"),
        ("spiffe://prod/db#x", "other characters"),
        ("spiffe://prod/d%62", "other characters"),
        ("spiffe://prod/a b", "other characters"),
        ("spiffe://prod/db\n", "other characters"),
        ("spiffe:///db", "trust domain"),
        ("spiffe://Prod/db", "trust domain"),
        ("spiffe://user@prod/db", "trust domain"),
        ("spiffe://prod:8443/db", "trust domain"),
        ("spiffe://pr%6Fd/db", "trust domain"),
        ("spiffe://prod?/db", "trust domain"),
        ("spiffe://[::1]/db", "trust domain"),
        (f"spiffe://{'d' * 256}/x", "trust domain"),
        ("SPIFFE://prod/db", "lower case"),
        ("spiffe:prod/db", "lower case"),
        (f"spiffe://prod/{'x' * 2048}", "longer than 2048 bytes"),
    ],
)
def test_spiffe_id_against_the_specification_is_refused(uri: str, problem: str) -> None:
    assert problem in refusal(certificate(x509.UniformResourceIdentifier(uri), DNS, cn="x"))


@pytest.mark.parametrize("other", [URI, x509.UniformResourceIdentifier("spiffe://prod/other")])
def test_spiffe_id_beside_another_uri_is_refused(other: x509.GeneralName) -> None:
    for names in ([SPIFFE, other], [other, SPIFFE]):
        assert "it has 2 URIs" in refusal(certificate(*names, cn="x"))


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(ca=True, path_length=None),
        x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        ),
    ],
)
def test_spiffe_certificate_that_can_sign_others_is_refused(extension: Any) -> None:
    assert "may sign others" in refusal(certificate(SPIFFE, extension=extension))


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (rsa.generate_private_key(65537, 1024), "its key is RSA-1024; use at least RSA-2048"),
        (ec.generate_private_key(ec.SECP224R1()), "its key is on the curve secp224r1"),
    ],
)
def test_key_that_is_too_short_is_refused(
    key: CertificateIssuerPrivateKeyTypes, problem: str
) -> None:
    assert problem in refusal(certificate(DNS, key=key))


def test_key_that_is_long_enough_is_accepted() -> None:
    assert identity_from_certificate(
        certificate(DNS, key=rsa.generate_private_key(65537, 2048))
    ).name


def test_signature_with_sha_1_is_refused() -> None:
    assert "it is signed with SHA1; issue it with SHA-256" in refusal(SIGNED_WITH_SHA1)


def test_unreadable_certificate_is_refused() -> None:
    assert "cannot be read" in refusal(b"no certificate")
