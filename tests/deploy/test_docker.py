"""The Dockerfile and compose.yaml, without an engine. deploy/docker/check uses one."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml

from tests.fixtures.daemon import BIN, Daemon, clean_environment

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
COMPOSE = ROOT / "deploy" / "docker" / "compose.yaml"
NOBODYS = "65532"
"""The id of a user that no machine has."""


def run(*command: str | Path) -> str:
    """Runs a command that must succeed, and returns its output."""
    done = subprocess.run(
        [str(part) for part in command],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def instruction(name: str) -> list[str]:
    """Returns an instruction of the final image that has a command as a list."""
    final = DOCKERFILE.read_text().rpartition("\nFROM ")[2].replace("\\\n", "")
    (arguments,) = re.findall(rf"^{name}\b.*?(\[.*\])$", final, re.MULTILINE)
    found: list[str] = json.loads(arguments)
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_dockerfile_passes_hadolint() -> None:
    assert run(BIN / "hadolint", DOCKERFILE) == ""


def test_compose_is_valid() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_memory_and_processes_of_the_service_are_bounded() -> None:
    kekd = services()["kekd"]
    bounds = [kekd[limit] for limit in ("mem_limit", "memswap_limit", "pids_limit")]
    assert bounds == ["512m", "512m", 256]


def test_image_has_only_the_copied_files() -> None:
    base, _, rest = DOCKERFILE.read_text().rpartition("\nFROM ")[2].partition("\n")
    assert base == "scratch"
    assert not re.search("^RUN", rest, re.MULTILINE)
    assert f"\nUSER {NOBODYS}:{NOBODYS}\n" in rest


def test_image_starts_with_valid_settings() -> None:
    assert instruction("ENTRYPOINT") == ["/opt/kekd/bin/kekd"]
    shown = run(BIN / "kekd", *instruction("CMD"), "--print-config")
    volumes = instruction("VOLUME")
    assert yaml.safe_load(shown)["disk"] == [volumes[0]]
    assert yaml.safe_load(shown)["listen"] == [f"unix:{volumes[1]}/kekd.sock"]


def test_health_check_succeeds_while_kekd_serves(memory_daemon: Daemon) -> None:
    program, *arguments = instruction("HEALTHCHECK")
    assert program == "/opt/kekd/bin/kekctl"
    run(BIN / "kekctl", "--address", memory_daemon.address, *arguments)


def test_build_context_has_the_whole_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *(package.split("/")[0] for package in packages),
    }
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == needed
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    assert {name for names in copied for name in names.split()} == needed


def test_every_container_is_confined() -> None:
    for service in services().values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["network_mode"] == "none"
        assert not service["user"].startswith("0")


def test_client_can_reach_the_socket_but_cannot_replace_it() -> None:
    kekd, client = services()["kekd"], services()["client"]
    assert "socket:/run/kekd" in kekd["volumes"]
    assert client["volumes"] == ["socket:/run/kekd:ro"]
    assert client["user"] != kekd["user"]
    assert client["group_add"] == [kekd["user"].split(":")[1]]
