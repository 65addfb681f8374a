"""kekctl over TLS: by flags, by variables, and by halves of either."""

import subprocess
from collections.abc import Mapping

from tests.fixtures.daemon import BIN, clean_environment
from tests.fixtures.tls import TlsDaemon
from tests.patience import PATIENCE


def kekctl(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [BIN / "kekctl", *arguments],
        env=clean_environment() | dict(env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout + done.stderr


def test_flags_enable_tls(tls_daemon: TlsDaemon) -> None:
    pair = tls_daemon.client
    flags = ("--ca", str(tls_daemon.authority.cert), "--cert", str(pair.cert), "--key")
    address = tls_daemon.address.replace("127.0.0.1", "localhost")
    assert kekctl("--address", address, *flags, str(pair.key), "list") == (0, "")


def test_variables_enable_tls(tls_daemon: TlsDaemon) -> None:
    env = {
        "KEKD_ADDRESS": tls_daemon.address,
        "KEKD_CA": str(tls_daemon.authority.cert),
        "KEKD_CERT": str(tls_daemon.client.cert),
        "KEKD_KEY": str(tls_daemon.client.key),
    }
    assert kekctl("list", env=env) == (0, "")
    code, said = kekctl("--server-name", "other.example", "list", env=env)
    assert code == 6
    assert "its certificate is for another name" in said


def test_incomplete_tls_options_are_rejected(tls_daemon: TlsDaemon) -> None:
    code, said = kekctl("--cert", str(tls_daemon.client.cert), "list")
    assert (code, "ca is missing" in said) == (2, True)
    ca = ("--ca", str(tls_daemon.authority.cert))
    code, said = kekctl(*ca, "--key", str(tls_daemon.client.key), "list")
    assert (code, "cert and key need each other" in said) == (2, True)
    code, said = kekctl("--address", tls_daemon.daemon.address, *ca, "list")
    assert (code, "cannot use TLS with the Unix socket" in said) == (2, True)
