"""The TLS settings: required combinations, and addresses that require TLS."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from kekd_server.listeners.engine import EngineName
from tests.cli.test_settings import PrintConfig, file, print_config, problems, values
from tests.fixtures.s3 import free_port
from tests.fixtures.tls import Authority
from tests.integration.test_listening import refused

__all__ = ["file", "print_config"]

PAIR = ("--tls-cert=/c", "--tls-key=/k")
MUTUAL = (*PAIR, "--tls-client-ca=/ca")
OUTSIDE = "--listen=0.0.0.0:7535"


def test_address_outside_loopback_with_client_ca_is_accepted(
    print_config: PrintConfig,
) -> None:
    assert values(print_config(OUTSIDE, *MUTUAL))["listen"] == ["0.0.0.0:7535"]


def test_address_outside_loopback_without_client_ca_is_rejected(print_config: PrintConfig) -> None:
    (problem,) = problems(print_config(OUTSIDE, *PAIR))
    assert problem == (
        "listen.0 (from --listen): '0.0.0.0:7535' is not a loopback address, and accepts"
        " clients without a certificate; set --tls-client-ca to the CA of your clients"
    )


def test_loopback_address_without_client_ca_is_accepted(print_config: PrintConfig) -> None:
    assert values(print_config("--listen=127.0.0.1:7535", *PAIR))["tls_cert"] == "/c"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--tls-cert=/c"], "tls_key (from default): required by tls_cert; set both"),
        (["--tls-key=/k"], "tls_key (from --tls-key): requires tls_cert; set both"),
        (
            ["--tls-client-ca=/ca"],
            "tls_client_ca (from --tls-client-ca): requires tls_cert and tls_key; set them",
        ),
        (["--tls-cert="], "tls_cert (from --tls-cert): empty path; write one"),
        (
            [*PAIR, "--listen=unix:/s"],
            "listen (from --listen): a Unix socket has no TLS; listen on HOST:PORT as well",
        ),
    ],
)
def test_incomplete_tls_settings_are_rejected(
    print_config: PrintConfig, flags: list[str], problem: str
) -> None:
    assert problems(print_config(*flags)) == [problem]


def test_incomplete_tls_is_reported_with_other_problems(print_config: PrintConfig) -> None:
    reported = problems(print_config("--tls-cert=/c", "--listen=nowhere", "--workers=0"))
    assert [problem.partition(" ")[0] for problem in reported] == ["tls_key", "listen.0", "workers"]


def test_address_in_the_file_has_its_own_tls(print_config: PrintConfig, file: Path) -> None:
    own = "{address: '0.0.0.0:7536', tls_cert: /c, tls_key: /k, tls_client_ca: /ca}"
    file.write_text(f"listen: ['127.0.0.1:7535', {own}]")
    plain, mutual = values(print_config("--config", str(file)))["listen"]
    assert plain == "127.0.0.1:7535"
    assert mutual == {
        "address": "0.0.0.0:7536",
        "tls_cert": "/c",
        "tls_key": "/k",
        "tls_client_ca": "/ca",
    }


def test_socket_with_tls_is_rejected(print_config: PrintConfig, file: Path) -> None:
    file.write_text("listen: [{address: 'unix:/s', tls_cert: /c, tls_key: /k}]")
    assert problems(print_config("--config", str(file))) == [
        f"listen.0 (from {file}): 'unix:/s' is a Unix socket, which has no TLS; remove its tls keys"
    ]


@pytest.mark.parametrize("engine", ["native"], scope="session")
def test_native_engine_with_tls_is_rejected(
    authority: Authority, engine: EngineName, tmp_path: Path
) -> None:
    pair = authority.issue(tmp_path / "server")
    flags = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    said = refused(f"--listen=127.0.0.1:{free_port()}", *flags, engine=engine)
    assert "engine native has no TLS; omit the engine" in said


def test_unusable_tls_files_are_all_reported_at_startup(
    authority: Authority, tmp_path: Path
) -> None:
    one, two = authority.issue(tmp_path / "one"), authority.issue(tmp_path / "two")
    three = authority.issue_for(ed25519.Ed25519PrivateKey.generate(), tmp_path / "three")
    config = tmp_path / "kekd.yaml"
    config.write_text(
        f"""
        listen:
          - {{address: '127.0.0.1:1', tls_cert: {one.cert}, tls_key: {two.key}}}
          - {{address: '127.0.0.1:2', tls_cert: {tmp_path}/none, tls_key: {two.key}}}
          - {{address: '127.0.0.1:3', tls_cert: {three.cert}, tls_key: {three.key}}}
        """
    )
    said = refused("--config", str(config))
    assert f"{two.key}: not the key of {one.cert}; use a certificate and a key that were" in said
    assert f"{tmp_path}/none: cannot be read: No such file or directory" in said
    assert f"{three.cert}: no TLS handshake succeeds with this certificate and its Ed25519" in said
    assert "the port may be in use" not in said
