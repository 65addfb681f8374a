"""The Debian package is built, and installed, run and removed on a machine with systemd."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kekd_common.version import __version__
from kekd_server.config.loader import load
from tests.deploy.machine import ROOT, Machine, booted
from tests.fixtures.debian import debian

DEBIAN = ROOT / "deploy" / "debian"
ENVELOPE = '{"index_name": "i", "blob": {"provider": "none"}}'


def test_settings_of_the_package_are_valid() -> None:
    settings = load({}, DEBIAN / "kekd.yaml").settings
    assert [str(listener) for listener in settings.listeners] == ["unix:/run/kekd/kekd.sock"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package. Its dependencies are installed from the package index, by hash."""
    debian("/usr/bin/python3", "python3")
    folder = tmp_path_factory.mktemp("package")
    environment = os.environ | {"PYTHON": f"{sys.base_prefix}/bin/python3"}
    command = [DEBIAN / "build", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine"), package.parent) as machine:
        machine.run("dpkg", "--install", str(package))
        machine.run("systemctl", "start", "kekd")
        yield machine


@pytest.mark.systemd
def test_installed_package_serves_and_is_the_version_under_test(installed: Machine) -> None:
    assert __version__ in installed.run("kekd", "--version")
    kekctl = ("kekctl", "--address", "unix:/run/kekd/kekd.sock")
    installed.run(*kekctl, "create", "-f", "-", stdin=ENVELOPE)
    assert installed.run(*kekctl, "list") == "i\n"
    (store,) = json.loads(installed.run(*kekctl, "status", "-o", "json"))["stores"]
    assert store["name"] == "disk:/var/lib/kekd"


@pytest.mark.systemd
def test_files_belong_to_the_package_and_the_unit_is_sound(installed: Machine) -> None:
    assert installed.run("dpkg", "--verify", "kekd") == ""
    assert installed.run("systemd-analyze", "verify", "--man=no", "kekd.service") == ""
    modes = installed.run("stat", "-c", "%a %U %G", "/etc/kekd/kekd.yaml", "/var/lib/kekd")
    assert modes.splitlines() == ["640 root kekd", "700 kekd kekd"]
    left = installed.run(
        "grep", "-rlI", "/tmp/tmp", "/opt/kekd/bin", "/opt/kekd/pyvenv.cfg", code=1
    )
    assert left == ""


@pytest.mark.systemd
def test_audit_file_is_rotated_by_logrotate(installed: Machine) -> None:
    debian("logrotate", "logrotate")
    installed.run("kekctl", "--address", "unix:/run/kekd/kekd.sock", "list")
    installed.run("logrotate", "--force", "/etc/logrotate.d/kekd")
    rotated = installed.run("sh", "-c", "ls /var/log/kekd")
    assert "audit.jsonl-" in rotated
    owner = installed.run("sh", "-c", "stat -c '%U %G' /var/log/kekd/*")
    assert set(owner.splitlines()) == {"kekd kekd"}


@pytest.mark.systemd
def test_upgrade_keeps_and_removal_leaves_the_keystore(installed: Machine, package: Path) -> None:
    kekctl = ("kekctl", "--address", "unix:/run/kekd/kekd.sock")
    installed.run(*kekctl, "create", "-f", "-", stdin=ENVELOPE.replace('"i"', '"kept"'))
    installed.run("dpkg", "--install", str(package))
    assert installed.run("systemctl", "is-active", "kekd") == "active\n"
    installed.run("dpkg", "--purge", "kekd")
    assert installed.run("systemctl", "is-active", "kekd", code=3) == "inactive\n"
    installed.run("test", "!", "-e", "/usr/bin/kekd")
    installed.run("test", "-s", "/var/lib/kekd/_catalog/config/kept.kms.cat")
