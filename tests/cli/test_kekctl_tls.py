"""kekctl over TLS: complete and incomplete flags and variables."""

from tests.fixtures.kekctl import kekctl
from tests.fixtures.tls import TlsDaemon


def test_flags_enable_tls(shared_tls_daemon: TlsDaemon) -> None:
    pair = shared_tls_daemon.client
    flags = ("--ca", str(shared_tls_daemon.authority.cert), "--cert", str(pair.cert), "--key")
    address = shared_tls_daemon.address.replace("127.0.0.1", "localhost")
    assert kekctl("--address", address, *flags, pair.key, "list").output == ""


def test_variables_enable_tls(shared_tls_daemon: TlsDaemon) -> None:
    env = {
        "KEKD_ADDRESS": shared_tls_daemon.address,
        "KEKD_CA": str(shared_tls_daemon.authority.cert),
        "KEKD_CERT": str(shared_tls_daemon.client.cert),
        "KEKD_KEY": str(shared_tls_daemon.client.key),
    }
    assert kekctl("list", env=env).output == ""
    refused = kekctl("--server-name", "other.example", "list", env=env, code=6)
    assert "its certificate is for another name" in refused.stderr


def test_incomplete_tls_options_are_rejected(shared_tls_daemon: TlsDaemon) -> None:
    no_ca = kekctl("--cert", shared_tls_daemon.client.cert, "list", code=2)
    assert "ca is missing" in no_ca.stderr
    ca = ("--ca", shared_tls_daemon.authority.cert)
    no_cert = kekctl(*ca, "--key", shared_tls_daemon.client.key, "list", code=2)
    assert "cert and key need each other" in no_cert.stderr
    socket = kekctl("--address", shared_tls_daemon.daemon.address, *ca, "list", code=2)
    assert "cannot use TLS with the Unix socket" in socket.stderr
