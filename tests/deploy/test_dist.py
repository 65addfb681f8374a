"""The wheel and the source archive."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fixtures.daemon import completed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `make dist` builds and checks."""
    folder = tmp_path_factory.mktemp("dist")
    made = subprocess.run(
        ["make", "dist", f"DIST={folder}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, without an extra."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    target = ("--quiet", "--python", folder / "bin" / "python")
    subprocess.run([UV, "pip", "install", *target, wheel], check=True)
    return folder / "bin"


def test_wheel_has_the_proto_files_at_their_canonical_path(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for proto in sorted((ROOT / "protos" / "kekd").rglob("*.proto")):
            name = str(proto.relative_to(ROOT / "protos"))
            assert archive.read(name) == proto.read_bytes()


def test_every_package_is_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packages = {name.partition("/")[0] for name in names if name.endswith(".py")}
    assert packages == {"kekd", "kekd_common", "kekd_proto", "kekd_schema", "kekd_server"}
    assert {f"{package}/py.typed" for package in packages} <= set(names)


def test_client_is_installed_without_an_extra(environment: Path) -> None:
    assert completed(environment / "kekctl", "--version").stdout
    assert completed(environment / "python", "-c", "import kekd; kekd.Client('localhost:1')")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
@pytest.mark.parametrize(
    "command", [["kekd"], ["python", "-m", "kekd"], ["python", "-m", "kekd_server"]]
)
def test_daemon_without_its_extra_names_the_command_that_installs_it(
    environment: Path, command: list[str], arguments: list[str]
) -> None:
    program, *words = command
    (line,) = completed(environment / program, *words, *arguments, code=1).stderr.splitlines()
    assert line.startswith("kekd: ")
    assert line.endswith(
        "the daemon isn't installed; run pip install '.[server]' in a clone of kekd"
    )
