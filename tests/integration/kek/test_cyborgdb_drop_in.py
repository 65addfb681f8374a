"""CyborgDB Service with its envelopes in kekd: `kekd.cyborgdb`."""

import json
import os
import signal
import subprocess
import sys
import threading
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cyborgdb_core
import pytest

import kekd
import kekd.cyborgdb
from kekd.kek import Slot
from tests.fixtures.daemon import clean_environment
from tests.fixtures.kms import Aws
from tests.fixtures.s3 import CREDENTIALS, free_port
from tests.integration.kek import registry_file
from tests.patience import PATIENCE, eventually

KEY = "01" * 32
S3 = cyborgdb_core.StorageConfig.s3(
    "bucket", region="eu-west-1", prefix="p", credentials=cyborgdb_core.S3Credentials("a", "b")
)


class Service:
    """The REST API of a service, in a process of its own."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v1"

    def post(self, path: str, **body: Any) -> Any:
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self._url}/{path}", content, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=PATIENCE):
                return True
        except OSError:
            return False


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of the service's own keystore."""
    return tmp_path / "data"


@pytest.fixture(
    params=[
        ["cyborgdb-service"],
        ["-m", "cyborgdb_service"],
        ["-m", "uvicorn"],
        ["-m", "uvicorn", "--reload"],
        ["-m", "uvicorn", "--workers", "2"],
    ],
    ids=["script", "module", "uvicorn", "uvicorn --reload", "uvicorn --workers"],
)
def service(
    request: pytest.FixtureRequest,
    aws: Aws,
    client: kekd.Client,
    slots: dict[str, Slot],
    data: Path,
    tmp_path: Path,
) -> Iterator[Service]:
    port = free_port()
    environment = clean_environment() | CREDENTIALS
    environment |= {
        "AWS_ENDPOINT_URL": aws.endpoint,
        "CYBORGDB_CONFIG_FILE": str(registry_file.write(tmp_path / "c.yaml", slots.values())),
        "CYBORGDB_DB_TYPE": "disk",
        "CYBORGDB_DISK_PATH": str(data),
        "KEKD_ADDRESS": client.address,
        "PORT": str(port),
        "TMPDIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "kekd.cyborgdb", *request.param]
    if "uvicorn" in request.param:
        command += ["cyborgdb_service.app:app", "--port", str(port)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,  # uvicorn starts children
        )
    try:
        service = Service(port)
        eventually(lambda: process.poll() is not None or service.is_healthy())
        assert process.poll() is None, log.read_text()
        yield service
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_service_keeps_the_envelopes_of_its_indexes_in_kekd(
    service: Service, client: kekd.Client, data: Path
) -> None:
    service.post("indexes/create", index_name="own", index_key=KEY, dimension=2)
    service.post("indexes/create", index_name="kms", kms_name="aws-kms", dimension=2)
    assert client.get_index_kms(None, "own").provider == "none"
    assert client.get_index_kms(None, "kms").kms_name == "aws-kms"
    assert not list(data.rglob("*.kms.cat"))
    service.post("vectors/upsert", index_name="kms", items=[{"id": "a", "vector": [0.5, 1.0]}])
    found = service.post("vectors/query", index_name="kms", query_vectors=[0.5, 1.0], top_k=1)
    assert [item["id"] for item in found["results"]] == ["a"]
    for name, key in (("own", {"index_key": KEY}), ("kms", {})):
        service.post("indexes/delete", index_name=name, **key)
    assert list(client.list_index_kms()) == []


def test_service_refuses_an_index_whose_envelope_exists(
    service: Service, client: kekd.Client
) -> None:
    client.create_index_kms(None, "taken", kekd.KMSBlob(provider="none"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        service.post("indexes/create", index_name="taken", kms_name="aws-kms", dimension=2)
    assert "KMS blob already exists for index 'taken'." in refused.value.read().decode()


@pytest.fixture
def installed(client: kekd.Client) -> Iterator[None]:
    kekd.cyborgdb.install(client.address)
    yield
    kekd.cyborgdb.uninstall()


@pytest.mark.usefixtures("installed")
def test_functions_have_the_results_of_cyborgdb_core(client: kekd.Client) -> None:
    blob = cyborgdb_core.KMSBlob(kms_name="prod", provider="aws-kms", key_id="k", wrapped_kek=b"w")
    assert cyborgdb_core.create_index_kms(S3, "i", blob) is None
    with pytest.raises(ValueError, match=r"^KMS blob already exists for index 'i'\.$"):
        cyborgdb_core.create_index_kms(config_location=S3, index_name="i", blob=blob)
    assert cyborgdb_core.get_index_kms(S3, "i").wrapped_kek == b"w"
    assert cyborgdb_core.push_index_kms(S3, "i", blob) is None
    assert client.get_index_kms(None, "i").kms_name == "prod"
    assert cyborgdb_core.delete_index_kms(S3, "i") is None
    assert cyborgdb_core.delete_index_kms(S3, "i") is None
    with pytest.raises(ValueError, match=r"^No KMS blob exists for index 'i'\.$"):
        cyborgdb_core.get_index_kms(S3, "i")
    with pytest.raises(ValueError, match=r"^index_name cannot be empty\.$"):
        cyborgdb_core.get_index_kms(S3, "")
    with pytest.raises(TypeError, match="config_location is a str; pass a StorageConfig"):
        cyborgdb_core.get_index_kms("disk:/x", "i")


def test_store_of_the_caller_or_of_the_installation_is_used(
    client: kekd.Client, memory: kekd.StorageConfig
) -> None:
    kekd.cyborgdb.install(client.address, store=memory)
    try:
        blob = kekd.KMSBlob(provider="none")
        cyborgdb_core.create_index_kms(S3, "of the installation", blob)
        kekd.cyborgdb.install(client.address)
        cyborgdb_core.create_index_kms(S3, "of the daemon", blob)
        cyborgdb_core.create_index_kms(memory, "of the caller", blob)
    finally:
        kekd.cyborgdb.uninstall()
    assert sorted(client.list_index_kms(memory)) == ["of the caller", "of the installation"]
    assert list(client.list_index_kms()) == ["of the daemon"]


def test_uninstall_restores_every_binding(client: kekd.Client) -> None:
    own = {name: getattr(cyborgdb_core, name) for name in kekd.cyborgdb.FUNCTIONS}
    early, late = types.ModuleType("early"), types.ModuleType("late")
    early.__dict__["renamed"] = cyborgdb_core.get_index_kms
    sys.modules |= {"early": early, "late": late}
    try:
        kekd.cyborgdb.uninstall()  # does nothing
        kekd.cyborgdb.install(client.address)
        kekd.cyborgdb.install(client.address)
        late.__dict__["bound"] = cyborgdb_core.push_index_kms
        assert kekd.cyborgdb.is_installed()
        assert cyborgdb_core.push_index_kms is not own["push_index_kms"]
        assert early.renamed is cyborgdb_core.get_index_kms is not own["get_index_kms"]
        kekd.cyborgdb.uninstall()
        assert {name: getattr(cyborgdb_core, name) for name in own} == own
        assert early.renamed is own["get_index_kms"]
        assert late.bound is own["push_index_kms"]
        assert not kekd.cyborgdb.is_installed()
    finally:
        del sys.modules["early"], sys.modules["late"]


UNTOUCHED = """
import sys
import kekd.cyborgdb
import cyborgdb_service.app, cyborgdb_service.indexes, cyborgdb_service.kms

def bindings():
    return {
        (module.__name__, name): id(value)
        for module in list(sys.modules.values())
        if module.__name__.startswith(("cyborgdb_service", "cyborgdb_core"))
        for name, value in list(vars(module).items())
    }

before = bindings()
kekd.cyborgdb.install()
after = bindings()
changed = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
kekd.cyborgdb.uninstall()
assert bindings() == before
print(*sorted(f"{module}.{name}" for module, name in changed), sep="\\n")
"""


def test_only_the_four_functions_of_the_service_change(client: kekd.Client, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNTOUCHED],
        cwd=tmp_path,
        env=clean_environment() | {"KEKD_ADDRESS": client.address},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    names = sorted(kekd.cyborgdb.FUNCTIONS)
    assert done.stdout.splitlines() == [
        *(f"cyborgdb_core.{name}" for name in names),
        *(f"cyborgdb_service.indexes._core_{name}" for name in names),
    ]


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (["no-such-command"], {}, "cannot run 'no-such-command': it does not exist; give the"),
        (["/nope.py"], {}, "cannot run '/nope.py': it does not exist; give the path"),
        (["true"], {}, "cannot run 'true': it is not a Python script; use -m MODULE"),
        (["./wrapper"], {}, "cannot run './wrapper': it is not a Python script; use -m MODULE"),
        (["./plain.py"], {}, "cannot run './plain.py': it is not executable; run 'python SCRIPT'"),
        (["plain.py"], {}, "cannot run 'plain.py': it is not in PATH; run 'python SCRIPT'"),
        (["-m", "nosuch"], {}, "cannot run module 'nosuch': this environment has no such module"),
        (["-m", "nosuch.a"], {}, "cannot run module 'nosuch.a': this environment has no such"),
        (["-m", "json"], {}, "cannot run module 'json': this environment has no such module"),
        (["python", "nope.py"], {}, "cannot run 'nope.py': it does not exist; give the path"),
        (["python3", "-u", "s.py"], {}, "cannot run 'python3' like this: it needs a script"),
        (["cyborgdb-service"], {"KEKD_ADDRESS": "nonsense"}, "invalid address 'nonsense'"),
        (["--store", "nonsense", "cyborgdb-service"], {}, "use memory, disk:PATH or s3:BUCKET"),
        ([], {}, "Missing argument 'COMMAND'"),
    ],
)
def test_command_that_cannot_run_is_refused(
    arguments: list[str], env: dict[str, str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "plain.py").write_text("print('ran')")
    wrapper = tmp_path / "wrapper"
    wrapper.write_text("#!/bin/sh\nexec python plain.py\n")
    wrapper.chmod(0o700)
    done = run_command(*arguments, folder=tmp_path, env=env)
    assert says in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def run_command(
    *arguments: str, folder: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kekd.cyborgdb", *arguments],
        cwd=folder,
        env=clean_environment() | (env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


SCRIPT = """
import os, signal, sys
import beside
import cyborgdb_core
print(sys.argv[1:], cyborgdb_core.get_index_kms.__module__)
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted")
os.kill(os.getpid(), signal.SIGINT)
signal.pause()
"""


@pytest.mark.parametrize(
    "command",
    [
        ["python", "folder/script"],
        ["python3", "folder/script"],
        [sys.executable, "folder/script"],
        ["folder/script"],
        ["folder/long"],
    ],
)
def test_script_runs_as_with_python(command: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "beside.py").touch()
    shebangs = {
        "script": "#!/usr/bin/env python3\n",
        "long": f"#!/bin/sh\n'''exec' {sys.executable} \"$0\" \"$@\"\n' '''\n",
    }
    for name, shebang in shebangs.items():
        (folder / name).write_text(shebang + SCRIPT)
        (folder / name).chmod(0o700)
    done = run_command(*command, "-a", "b", folder=tmp_path)
    assert done.stdout == "['-a', 'b'] kekd.cyborgdb._functions\ninterrupted\n", done.stderr
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert done.returncode == -signal.SIGINT


def test_module_runs_after_the_name_of_an_interpreter(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import sys\nprint(sys.argv[1:])")
    done = run_command("python", "-m", "module", "-a", folder=tmp_path)
    assert done.stdout == "['-a']\n", done.stderr


def test_calls_survive_another_install_and_uninstall(client: kekd.Client) -> None:
    """A call ends on the client that it began with, or runs on cyborgdb_core's own function."""
    own = cyborgdb_core.get_index_kms
    blob = kekd.KMSBlob(provider="none")
    client.create_index_kms(None, "i", blob)
    kekd.cyborgdb.install(client.address)
    kekd_get = cyborgdb_core.get_index_kms
    done = threading.Event()

    def get() -> None:
        while not done.is_set():
            kekd_get(S3, "i")

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(get) for _ in range(4)]
        for _ in range(100):
            kekd.cyborgdb.install(client.address)
            kekd_get(S3, "i")
        done.set()
    for call in calls:
        call.result()
    kekd.cyborgdb.uninstall()
    assert cyborgdb_core.get_index_kms is own
    disk = cyborgdb_core.StorageConfig.disk("/nonexistent")
    with pytest.raises(ValueError, match="No KMS blob exists") as of_core:
        own(disk, "j")
    with pytest.raises(ValueError, match="No KMS blob exists") as of_kekd:
        kekd_get(disk, "j")  # as a thread that looked up the function before
    assert type(of_kekd.value) is type(of_core.value)


@pytest.mark.usefixtures("installed")
def test_functions_have_their_names_and_documentation() -> None:
    for name in kekd.cyborgdb.FUNCTIONS:
        function = getattr(cyborgdb_core, name)
        assert function.__name__ == function.__qualname__ == name
        assert function.__doc__


def test_store_of_another_type_is_refused_when_installed(client: kekd.Client) -> None:
    with pytest.raises(TypeError, match="store is a str; pass a kekd"):
        kekd.cyborgdb.install(client.address, store="memory")  # type: ignore[arg-type]
    assert not kekd.cyborgdb.is_installed()


def test_environment_without_cyborgdb_core_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cyborgdb_core", None)
    with pytest.raises(ModuleNotFoundError, match="no cyborgdb_core; install cyborgdb-service"):
        kekd.cyborgdb.install("unix:/nonexistent")
