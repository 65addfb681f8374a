"""The examples in other languages, built and run as their READMEs say."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import kekd
from tests.examples.netty import build_native_netty
from tests.fixtures.daemon import Daemon
from tests.fixtures.debian import debian, install
from tests.fixtures.s3 import free_port
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
ADDRESS: Final = "localhost:7535"
"""The daemon's address in the READMEs."""

OUTPUT = """\
CreateEnvelope: {exists} ENVELOPE_EXISTS
GetEnvelope: alias/example
GetEnvelope: {not_found} ENVELOPE_NOT_FOUND
WatchEnvelopes: KIND_CREATED my_index
"""
CODES: Final = {"exists": "ALREADY_EXISTS", "not_found": "NOT_FOUND"}
CODES_OF_GO: Final = {"exists": "AlreadyExists", "not_found": "NotFound"}


def run(command: str, folder: Path, **environment: str) -> str:
    """Runs a command of a README, and returns its output."""
    done = end(command, folder, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def end(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module", params=["go", "java", "node"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def readme(language: str) -> list[str]:
    """The commands of the example's README."""
    text = (ROOT / "examples" / language / "README.md").read_text()
    return re.findall(r"```sh\n +(.+)\n +```", text)


@pytest.fixture(scope="module")
def example(language: str, readme: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built example, in a copy of the repository."""
    repository = tmp_path_factory.mktemp("repository")
    for name in ("protos", "third_party"):
        (repository / name).symlink_to(ROOT / name)
    made = shutil.ignore_patterns("build", "node_modules")
    folder = shutil.copytree(
        ROOT / "examples" / language, repository / "examples" / language, ignore=made
    )
    *steps, _ = readme
    for step in steps:
        if step.startswith("apt-get install "):
            install(*step.split()[2:])
        else:
            tool = step.split()[0]
            assert shutil.which(tool), f"{tool} is missing: see examples/{language}/README.md"
            run(step, folder)
    return folder


@pytest.fixture(scope="module")
def environment(language: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables to run the example on a Unix socket."""
    if language != "java":
        return {}
    folder = tmp_path_factory.mktemp("netty")
    build_native_netty(folder)
    return {"LD_LIBRARY_PATH": str(folder)}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def daemon(tmp_path: Path, port: int) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, "--memory", "--listen", f"127.0.0.1:{port}")
    daemon.wait()
    yield daemon
    daemon.kill()


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_example_creates_gets_and_watches_and_reads_reasons(
    language: str,
    readme: list[str],
    example: Path,
    environment: dict[str, str],
    daemon: Daemon,
    port: int,
    transport: str,
) -> None:
    address = f"localhost:{port}" if transport == "tcp" else daemon.address
    assert ADDRESS in readme[-1]
    output = run(readme[-1].replace(ADDRESS, address), example, **environment)
    assert output == OUTPUT.format(**(CODES_OF_GO if language == "go" else CODES))
    with kekd.Client(daemon.address) as client:
        assert client.get_index_kms(None, "my_index").key_id == "alias/example"


def test_example_without_an_index_prints_its_usage(readme: list[str], example: Path) -> None:
    done = end(readme[-1].removesuffix(" my_index"), example)
    assert done.returncode == 2
    assert re.fullmatch(r"usage: .*ADDRESS INDEX_NAME\n", done.stderr)


def test_example_that_fails_prints_one_line(
    readme: list[str], example: Path, daemon: Daemon, port: int
) -> None:
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "my_index", kekd.KMSBlob(provider="none"))
    done = end(readme[-1].replace(ADDRESS, f"localhost:{port}"), example)
    assert done.returncode == 1
    assert re.fullmatch(r".+KMS blob already exists for index 'my_index'\.\n", done.stderr)


def test_go_code_that_is_generated_into_a_module_builds_the_example(tmp_path: Path) -> None:
    readme = (ROOT / "examples/go/README.md").read_text()
    (packages,) = re.findall(r"apt-get install (.+)", readme)
    install(*packages.split())
    (command,) = re.findall(r"```console\n(.+?)```", readme, re.DOTALL)
    module = tmp_path / "src" / "example.org" / "app"
    module.mkdir(parents=True)
    (module / "protos").symlink_to(ROOT / "protos")
    run(command.replace("MODULE", "example.org/app"), module)
    example = (ROOT / "examples/go/example.go").read_text()
    (module / "main.go").write_text(
        example.replace("kekd.example/go/kekd/v1", "example.org/app/kekdv1")
    )
    path = f"{tmp_path}:/usr/share/gocode"
    run("go build -o /dev/null .", module, GO111MODULE="off", GOPATH=path)


@pytest.mark.parametrize(
    ("plugin", "file", "declaration"),
    [
        ("csharp", "Envelope.cs", "namespace Kekd.V1 {"),
        ("objc", "kekd/v1/Envelope.pbobjc.h", "@interface KKDKMSBlob "),
        ("php", "Kekd/V1/KMSBlob.php", r"namespace Kekd\V1;"),
        ("ruby", "kekd/v1/envelope_pb.rb", "module Kekd\n  module V1\n"),
    ],
)
def test_code_of_other_languages_has_their_namespaces(
    tmp_path: Path, plugin: str, file: str, declaration: str
) -> None:
    protoc = debian("protoc", "protobuf-compiler")
    protos = (ROOT / "protos").rglob("*.proto")
    command: list[str | Path] = [
        protoc,
        f"-I{ROOT / 'protos'}",
        f"--{plugin}_out={tmp_path}",
        *protos,
    ]
    subprocess.run(command, check=True)
    assert declaration in (tmp_path / file).read_text()
