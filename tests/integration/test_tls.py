"""TLS listeners: the callers that they accept, and the errors of the others."""

import ssl
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

import kekd
from tests.fixtures.daemon import StartDaemon
from tests.fixtures.s3 import free_port
from tests.fixtures.tls import DAY, Authority, StartTlsDaemon, TlsDaemon

BLOB = kekd.KMSBlob(provider="none")
TIMEOUT = 10.0
HANDSHAKE = (
    "it closed the connection; if it uses TLS, pass ca (KEKD_CA) and a cert of its client CA"
)


def refused(address: str, tls: kekd.Tls | None) -> str:
    with kekd.Client(address, tls=tls, timeout=TIMEOUT) as client:
        with pytest.raises(kekd.UnavailableError) as caught:
            list(client.list_index_kms())
        return str(caught.value)


def test_client_with_a_valid_certificate_is_accepted(shared_tls_daemon: TlsDaemon) -> None:
    with kekd.Client(shared_tls_daemon.address, tls=shared_tls_daemon.tls) as client:
        client.create_index_kms(None, "x", BLOB)
        assert client.get_index_kms(None, "x") == BLOB
        client.delete_index_kms(None, "x")


async def test_async_client_with_a_valid_certificate_is_accepted(
    shared_tls_daemon: TlsDaemon,
) -> None:
    async with kekd.AsyncClient(shared_tls_daemon.address, tls=shared_tls_daemon.tls) as client:
        await client.create_index_kms(None, "x", BLOB)
        assert await client.get_index_kms(None, "x") == BLOB
        await client.delete_index_kms(None, "x")


def test_unix_socket_of_a_tls_daemon_has_no_tls(shared_tls_daemon: TlsDaemon) -> None:
    with kekd.Client(shared_tls_daemon.daemon.address) as client:
        assert list(client.list_index_kms()) == []


@pytest.mark.parametrize(
    ("begins", "ends", "cause"),
    [
        (-2 * DAY, -DAY, "certificate has expired"),
        (DAY, 2 * DAY, "certificate is not yet valid"),
    ],
)
def test_client_certificate_outside_its_validity_is_refused(
    tls_daemon: TlsDaemon, tmp_path: Path, begins: timedelta, ends: timedelta, cause: str
) -> None:
    pair = tls_daemon.authority.issue(tmp_path / "bad", begins=begins, ends=ends)
    tls = kekd.Tls(ca=tls_daemon.authority.cert, cert=pair.cert, key=pair.key)
    assert HANDSHAKE in refused(tls_daemon.address, tls)
    assert tls_daemon.logged(cause)


@pytest.mark.parametrize("self_signed", [False, True])
def test_client_certificate_of_an_unknown_issuer_is_refused(
    shared_tls_daemon: TlsDaemon, tmp_path: Path, self_signed: bool
) -> None:
    other = Authority(tmp_path / "other")
    pair = (other.itself if self_signed else other.issue)(tmp_path / "bad")
    tls = kekd.Tls(ca=shared_tls_daemon.authority.cert, cert=pair.cert, key=pair.key)
    assert HANDSHAKE in refused(shared_tls_daemon.address, tls)


def test_client_without_a_certificate_is_refused(shared_tls_daemon: TlsDaemon) -> None:
    assert HANDSHAKE in refused(
        shared_tls_daemon.address, kekd.Tls(ca=shared_tls_daemon.authority.cert)
    )


def test_client_without_tls_is_refused(shared_tls_daemon: TlsDaemon) -> None:
    assert HANDSHAKE in refused(shared_tls_daemon.address, None)


def test_daemon_without_tls_is_refused(
    shared_tls_daemon: TlsDaemon, start_daemon: StartDaemon
) -> None:
    plain = f"127.0.0.1:{free_port()}"
    start_daemon("--memory", "--listen", plain, name="plain")
    said = refused(plain, shared_tls_daemon.tls)
    assert "it doesn't use TLS; omit ca, cert and key" in said


def test_daemon_of_another_ca_is_refused(shared_tls_daemon: TlsDaemon, tmp_path: Path) -> None:
    pair = shared_tls_daemon.client
    tls = kekd.Tls(ca=Authority(tmp_path / "other").cert, cert=pair.cert, key=pair.key)
    said = refused(shared_tls_daemon.address, tls)
    assert "no CA in ca (KEKD_CA) issued its certificate; check that ca is the right file" in said


def test_daemon_of_another_name_is_refused(shared_tls_daemon: TlsDaemon, tmp_path: Path) -> None:
    pair = shared_tls_daemon.client
    files = {"ca": shared_tls_daemon.authority.cert, "cert": pair.cert, "key": pair.key}
    said = refused(shared_tls_daemon.address, kekd.Tls(**files, server_name="kekd.example"))
    assert "its certificate is for another name; pass that as server_name" in said
    with kekd.Client(
        shared_tls_daemon.address, tls=kekd.Tls(**files, server_name="localhost")
    ) as client:
        assert list(client.list_index_kms()) == []


def test_listener_without_a_client_ca_requests_no_certificate(
    start_tls_daemon: StartTlsDaemon,
) -> None:
    daemon = start_tls_daemon("--memory", mutual=False)
    with kekd.Client(daemon.address, tls=kekd.Tls(ca=daemon.authority.cert)) as client:
        assert list(client.list_index_kms()) == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_1_1_is_refused(shared_tls_daemon: TlsDaemon) -> None:
    with shared_tls_daemon.connected(
        shared_tls_daemon.client, ssl.TLSVersion.TLSv1_2
    ) as connection:
        assert connection.version() == "TLSv1.2"
    with shared_tls_daemon.connected(shared_tls_daemon.client) as connection:
        assert connection.version() == "TLSv1.3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(OSError, match=r"EOF|reset|ALERT"):
            shared_tls_daemon.connected(shared_tls_daemon.client, ssl.TLSVersion.TLSv1_1)


def test_unusable_client_file_is_named_in_the_error(
    shared_tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    ca, pair = shared_tls_daemon.authority.cert, shared_tls_daemon.client
    broken = tmp_path / "broken.key"
    broken.write_text("-----BEGIN PRIVATE KEY-----\nabcd\n-----END PRIVATE KEY-----\n")
    for tls, problem in (
        (kekd.Tls(ca=tmp_path / "none"), "none: No such file or directory"),
        (kekd.Tls(ca=pair.key), "tls.key: no certificates found"),
        (kekd.Tls(ca=ca, cert=ca, key=pair.key), "the key is that of another certificate; they"),
        (kekd.Tls(ca=ca, cert=pair.cert, key=broken), "damaged, or encrypted; they must be"),
    ):
        with pytest.raises(ValueError, match=problem):
            kekd.Client(shared_tls_daemon.address, tls=tls)


def test_ca_with_a_comment_or_glued_certificates_is_accepted(
    shared_tls_daemon: TlsDaemon, tmp_path: Path
) -> None:
    written = shared_tls_daemon.authority.cert.read_bytes()
    for number, text in enumerate(["# für kekd\n".encode() + written, written.rstrip() + written]):
        ca = tmp_path / f"{number}.crt"
        ca.write_bytes(text)
        tls = kekd.Tls(ca=ca, cert=shared_tls_daemon.client.cert, key=shared_tls_daemon.client.key)
        with kekd.Client(shared_tls_daemon.address, tls=tls) as client:
            assert list(client.list_index_kms()) == []


def test_cert_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="cert and key need each other; pass both"):
        kekd.Tls(ca="ca", cert="cert")


def test_client_with_tls_for_a_unix_socket_is_refused(shared_tls_daemon: TlsDaemon) -> None:
    with pytest.raises(ValueError, match="cannot use TLS with the Unix socket"):
        kekd.Client(shared_tls_daemon.daemon.address, tls=shared_tls_daemon.tls)


def test_variables_configure_tls(
    shared_tls_daemon: TlsDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEKD_CERT", str(shared_tls_daemon.client.cert))
    monkeypatch.setenv("KEKD_KEY", str(shared_tls_daemon.client.key))
    monkeypatch.setenv("KEKD_SERVER_NAME", "localhost")
    with pytest.raises(ValueError, match="KEKD_CA, KEKD_CERT, KEKD_KEY: incomplete TLS options"):
        kekd.Client(shared_tls_daemon.address)
    monkeypatch.setenv("KEKD_CA", str(shared_tls_daemon.authority.cert))
    with kekd.Client(shared_tls_daemon.address) as client:
        assert list(client.list_index_kms()) == []
