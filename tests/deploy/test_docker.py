"""The Dockerfile and compose.yaml, without an engine. deploy/docker/check uses one."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from kekd_common.version import __version__
from tests.fixtures.daemon import BIN, Daemon, clean_environment

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
COMPOSE = ROOT / "deploy" / "docker" / "compose.yaml"
LOCKS = DOCKERFILE.parent / "locks"
EXTRAS = ["server", "aws", "native", "otel"]
PYTHON = Path(sys.base_prefix) / "bin" / "python3"
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
    needed.add("deploy/docker/locks")
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


def test_image_has_the_labels_of_the_open_container_initiative() -> None:
    """Follows https://github.com/opencontainers/image-spec/blob/main/annotations.md."""
    text = DOCKERFILE.read_text()
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="(.+?)"', text))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["title"] == project["name"]
    assert labels["description"] in project["description"]
    assert labels["licenses"] == project["license"]
    assert {"version", "revision", "created"} <= labels.keys()
    assert f"\nARG VERSION={__version__}\n" in text


def pinned(*names: str) -> dict[str, Version]:
    """Returns the packages of the lock files and their versions, each of which has a hash."""
    found: dict[str, Version] = {}
    for name in names:
        text = (LOCKS / f"{name}.txt").read_text()
        for package, version, rest in re.findall(
            r"^([\w.-]+)==(\S+)((?:.*\\\n)+.*)", text, re.MULTILINE
        ):
            assert "--hash=sha256:" in rest, package
            assert found.setdefault(package, Version(version)) == Version(version), package
    return found


def test_locked_packages_satisfy_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    build = project["build-system"]["requires"]
    for name, requirements in ({name: extras[name] for name in EXTRAS} | {"build": build}).items():
        versions = pinned(name)
        own = [] if name == "build" else project["project"]["dependencies"]
        for requirement in map(Requirement, [*requirements, *own]):
            version = versions.get(canonicalize_name(requirement.name))
            assert version, f"{requirement} isn't locked: run deploy/docker/lock"
            assert requirement.specifier.contains(version), f"run deploy/docker/lock: {requirement}"


def test_locked_extras_have_the_same_versions() -> None:
    assert len(pinned(*EXTRAS)) > 30


@pytest.mark.slow
@pytest.mark.parametrize("extras", [["server"], EXTRAS], ids=["default", "all"])
def test_locked_packages_are_installed_by_hash_and_kekd_runs_with_them(
    tmp_path: Path, extras: list[str]
) -> None:
    """Runs the steps of the Dockerfile."""
    run(PYTHON, "-m", "venv", tmp_path / "build")
    run(PYTHON, "-m", "venv", tmp_path / "kekd")
    locked = ("install", "--require-hashes", "--only-binary", ":all:")
    run(tmp_path / "build/bin/pip", *locked, "-r", LOCKS / "build.txt")
    requirements = [argument for name in extras for argument in ("-r", LOCKS / f"{name}.txt")]
    run(tmp_path / "kekd/bin/pip", *locked, *requirements)
    wheel = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "wheels")
    run(tmp_path / "build/bin/pip", *wheel, ROOT)
    run(tmp_path / "kekd/bin/pip", "install", "--no-deps", *(tmp_path / "wheels").glob("*.whl"))
    run(tmp_path / "kekd/bin/pip", "check")
    assert __version__ in run(tmp_path / "kekd/bin/kekd", "--version")
    engine = ("--engine", "native") if "native" in extras else ()
    run(tmp_path / "kekd/bin/kekd", "--memory", *engine, "--print-config")


def test_dockerfile_installs_by_hash_only() -> None:
    installs = re.findall(r"pip install (.+)", DOCKERFILE.read_text())
    assert len(installs) == 3
    for arguments in installs:
        assert "--require-hashes" in arguments or "--no-deps /wheels/" in arguments
