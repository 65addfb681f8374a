"""Addresses and paths from users, in the client and the daemon."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import kekd
from kekd_common.address import socket_path
from kekd_server.config.errors import SettingsError
from kekd_server.config.loader import load
from kekd_server.listeners import listener


def client_address(address: str) -> str:
    with kekd.Client(address) as client:
        return client.address


def daemon_address(address: str) -> str:
    return str(listener.parse(address))


either_side = pytest.mark.parametrize("read", [client_address, daemon_address])


@either_side
@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("unix:/run/x", "/run/x"),
        ("unix:///run/x", "/run/x"),
        ("unix:~/x", "{home}/x"),
        ("unix://~/x", None),
        ("unix:run/x", "{here}/run/x"),
    ],
)
def test_socket_address_resolves_the_same_on_both_sides(
    read: Callable[[str], str],
    address: str,
    path: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    if path is None:
        with pytest.raises(ValueError, match="has no host"):
            read(address)
    else:
        expected = path.format(home=tmp_path / "home", here=tmp_path)
        assert read(address) == f"unix:{expected}"


@either_side
def test_two_slashes_are_refused_with_a_correction(read: Callable[[str], str]) -> None:
    says = "invalid address 'unix://run/x': a Unix socket has no host; write unix:/run/x or"
    with pytest.raises(ValueError, match=re.escape(says)):
        read("unix://run/x")


@either_side
def test_variable_in_an_address_is_refused(read: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="is not expanded here"):
        read("unix:${HOME}/x")


@either_side
def test_home_of_an_unknown_user_is_refused(read: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="cannot resolve"):
        read("unix:~nobody-has-this-name/x")


def test_path_is_absolute() -> None:
    assert socket_path("unix:/a/../b") == Path("/a/../b")


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('disk: ["${HOME}/keystore"]', "disk.0"),
        ('audit: "${HOME}/audit.log"', "audit"),
        ('tls_cert: "${HOME}/tls.crt"', "tls_cert"),
        ('listen: ["unix:${HOME}/s"]', "listen.0"),
        ('s3: [{bucket: bucket, prefix: "${STAGE}/x"}]', "s3.0.prefix"),
        ('s3: [{bucket: bucket, region: "${AWS_REGION}"}]', "s3.0.region"),
        ('s3_region: "${AWS_REGION:-eu-west-1}"', "s3_region"),
    ],
)
def test_variable_in_the_configuration_is_refused(
    setting: str, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "kekd.yaml"
    file.write_text(setting)
    with pytest.raises(SettingsError) as caught:
        load({}, file)
    said = next(text for text in caught.value.problems if text.startswith(problem))
    assert "${...} is not expanded here; write the value" in said


@pytest.mark.parametrize("setting", ['disk: ["~/keystore"]', 'listen: ["unix:~/s"]'])
def test_home_in_the_configuration_is_expanded(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "kekd.yaml"
    file.write_text(setting)
    settings = load({}, file).settings
    assert str(tmp_path) in str(settings.disk[0] if "disk" in setting else settings.listeners[0])
