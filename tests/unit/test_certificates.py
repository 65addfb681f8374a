"""Certificates and keys are converted to the form that gRPC reads, or refused."""

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kekd_server.listeners.certificates import (
    Certificates,
    HandshakeError,
    TlsCredentials,
    TlsError,
)
from kekd_server.listeners.tcp import TlsFiles
from kekd_server.rpc.handshake import try_handshake
from tests.fixtures.tls import Authority, Pair, written
from tests.unit.test_pem import SPELLINGS

LOCALHOST = x509.DNSName("localhost")
TRADITIONAL = PrivateFormat.TraditionalOpenSSL
Key = CertificateIssuerPrivateKeyTypes


def issued(
    key: Key, *names: x509.GeneralName, cn: str = "", usage: x509.ObjectIdentifier | None = None
) -> bytes:
    """A self-signed certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else [])
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - day, now + 30 * day
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    signs_itself = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    algorithm = None if signs_itself else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def encoded(key: Key, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def read(pair: Pair, client_ca: Path | None = None) -> TlsCredentials:
    return Certificates(TlsFiles(pair.cert, pair.key, client_ca), try_handshake).current


@pytest.fixture(scope="module")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_certificate_in_each_form_of_pem_is_served(
    spelling: str, tmp_path: Path, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    spell: Callable[[bytes], bytes] = SPELLINGS[spelling]
    cert = issued(ec_key, LOCALHOST)
    pair = written(tmp_path, spell(cert), spell(encoded(ec_key)))
    client_ca = tmp_path / "ca.crt"
    client_ca.write_bytes(spell(cert))
    credentials = read(pair, client_ca)
    assert (credentials.cert, credentials.client_ca) == (cert, cert)


def test_concatenated_certificates_are_served(
    tmp_path: Path, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    first, second = issued(ec_key, LOCALHOST), issued(ec_key, LOCALHOST, cn="other")
    pair = written(tmp_path, first.rstrip() + second, encoded(ec_key))
    client_ca = tmp_path / "ca.crt"
    client_ca.write_bytes(first.rstrip() + second)
    credentials = read(pair, client_ca)
    assert (credentials.cert, credentials.client_ca) == (first + second, first + second)


def test_key_in_each_format_is_served(
    tmp_path: Path, ec_key: ec.EllipticCurvePrivateKey, rsa_key: rsa.RSAPrivateKey
) -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    keys: list[tuple[Key, bytes]] = [
        (ec_key, encoded(ec_key, TRADITIONAL)),
        (ec_key, parameters + encoded(ec_key, TRADITIONAL)),
        (ec_key, issued(ec_key, LOCALHOST) + encoded(ec_key)),
        (rsa_key, encoded(rsa_key)),
        (rsa_key, encoded(rsa_key, TRADITIONAL)),
    ]
    for key, pem in keys:
        assert read(written(tmp_path, issued(key, LOCALHOST), pem)).key == encoded(key)


@pytest.mark.parametrize(
    ("names", "cn"),
    [
        ([x509.DNSName("*.example.org")], ""),
        ([x509.IPAddress(ipaddress.ip_address("::1"))], ""),
        ([x509.UniformResourceIdentifier("spiffe://prod/kekd")], ""),
        ([], "kekd"),
        ([], ""),
    ],
)
def test_certificate_with_any_name_is_tried(
    names: list[x509.GeneralName], cn: str, tmp_path: Path, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    assert read(written(tmp_path, issued(ec_key, *names, cn=cn), encoded(ec_key)))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
        (ec.generate_private_key(ec.SECP521R1()), "ECDSA secp521r1"),
        (ec.generate_private_key(ec.SECP256K1()), "ECDSA secp256k1"),
    ],
)
def test_key_type_that_grpc_cannot_use_is_named(key: Key, kind: str, tmp_path: Path) -> None:
    pair = written(tmp_path, issued(key, LOCALHOST), encoded(key))
    with pytest.raises(TlsError) as refused:
        read(pair)
    said = str(refused.value)
    assert said.startswith(f"{pair.cert}: no TLS handshake succeeds with this certificate and its")
    assert f" {kind} key (" in said
    assert "use an RSA key of 2048 bits or more, or an ECDSA key on P-256 or P-384" in said


def test_weak_or_unsuitable_certificate_is_refused(
    tmp_path: Path, authority: Authority, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(TlsError, match=r"tls\.crt: its key is RSA-1024; use at least RSA-2048"):
        read(written(tmp_path, issued(weak, LOCALHOST), encoded(weak)))
    client_ca = tmp_path / "ca.crt"
    client_ca.write_bytes(authority.cert.read_bytes() + issued(weak, cn="ca"))
    with pytest.raises(TlsError, match=r"ca\.crt: certificate [0-9a-f]+: its key is RSA-1024"):
        read(authority.issue(tmp_path / "good"), client_ca)
    for_clients = issued(ec_key, LOCALHOST, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    with pytest.raises(TlsError, match=r"tls\.crt: not a server certificate; .*serverAuth"):
        read(written(tmp_path, for_clients, encoded(ec_key)))


def test_key_with_a_passphrase_is_refused(
    tmp_path: Path, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    for form in (PrivateFormat.PKCS8, TRADITIONAL):
        locked = ec_key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
        with pytest.raises(TlsError, match=r"tls\.key: not a private key .* without a passphrase"):
            read(written(tmp_path, issued(ec_key, LOCALHOST), locked))


def test_truncated_file_is_refused(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue(tmp_path)
    pair.cert.write_bytes(2 * pair.cert.read_bytes()[:-40])
    with pytest.raises(TlsError, match=r"tls\.crt: not PEM: .* truncated"):
        read(pair)


def test_failed_trial_is_repeated_if_forced_and_not_at_each_check(
    tmp_path: Path, authority: Authority
) -> None:
    first, second = authority.issue(tmp_path / "first"), authority.issue(tmp_path / "second")
    failing, tried = True, []

    def trial(credentials: TlsCredentials) -> None:
        tried.append(credentials.serial)
        if failing and len(tried) > 1:
            raise HandshakeError("no descriptors")

    certificates = Certificates(TlsFiles(first.cert, first.key, None), trial)
    old, new = first.serial, second.serial
    first.replace(second)
    for _ in range(3):
        certificates.check()
    assert (tried, certificates.failed_reloads, certificates.current.serial) == ([old, new], 1, old)
    failing = False
    certificates.check(forced=True)
    assert (tried, certificates.current.serial) == ([old, new, new], new)


def test_repr_does_not_contain_the_key(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue(tmp_path)
    secret = pair.key.read_text().splitlines()[1]
    assert secret not in repr(read(pair))
