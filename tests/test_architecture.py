"""Who may import whom, what is public, and that generated code is what the generator makes."""

import ast
import filecmp
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kekd
from kekd_proto.v1 import daemon_pb2, envelope_pb2
from kekd_server.rpc.servicer import EnvelopeServicer
from kekd_server.rpc.status import DaemonServicer

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "kekd": ROOT / "client" / "kekd",
    "kekd_proto": ROOT / "protos" / "kekd_proto",
    "kekd_schema": ROOT / "schema" / "kekd_schema",
    "kekd_policy": ROOT / "server" / "kekd_policy",
    "kekd_server": ROOT / "server" / "kekd_server",
}
GENERATED = ("protos/kekd_proto/v1", "schema/kekd_schema/kms_blob_generated.py")

# What is imported -> the only places that may do so.
ALLOWED = {
    "kekd": ["kekd"],
    "kekd_server": ["kekd_server"],
    "kekd_policy": ["kekd/_cli/policy.py", "kekd_policy", "kekd_server"],
    "kekd_schema": ["kekd_schema", "kekd_server"],
    "kekd_proto": ["kekd", "kekd_policy/document.py", "kekd_proto", "kekd_server"],
    "grpc": [
        "kekd/_rpc.py",
        "kekd/_client.py",
        "kekd/_async_client.py",
        "kekd/_retries.py",
        "kekd/_watch.py",
        "kekd_server/rpc",
    ],
    "grpc_health": ["kekd/_operations.py", "kekd_server/rpc"],
    "grpc_reflection": ["kekd_server/rpc"],
    "boto3": ["kekd_proto/aws_credentials.py"],
    "botocore": [
        "kekd_proto/aws_credentials.py",
        "kekd_server/storage/s3.py",
        "kekd_server/storage/s3_errors.py",
        "kekd_server/storage/s3_keystore.py",
        "kekd_server/storage/s3_object.py",
        "kekd/kek/aws.py",
    ],
    "asyncinotify": ["kekd_server/storage/disk_source.py"],
    "cryptography": [
        "kekd/_doctor/certificate.py",
        "kekd/kek/aws_secrets.py",
        "kekd_server/certificate_strength.py",
        "kekd_server/identity.py",
        "kekd_server/tls.py",
    ],
    "flatbuffers": ["kekd_schema/codec.py"],
    "opentelemetry": ["kekd_server/tracing.py"],
    "prometheus_client": ["kekd_server/metrics.py", "kekd_server/metrics_listener.py"],
    "kekd_schema.kms_blob_generated": ["kekd_schema/codec.py"],
    "kekd_server.rpc": ["kekd_server/rpc", "kekd_server/app.py"],
    "kekd_server.app": ["kekd_server/__main__.py", "kekd_server/worker.py"],
    "kekd_server.settings": [
        *(
            f"kekd_server/{name}.py"
            for name in ("__main__", "app", "exposed_files", "supervisor", "worker")
        )
    ],
    "kekd_server.storage.disk": ["kekd_server/app.py", "kekd_server/storage/disk_source.py"],
    "kekd_server.storage.memory": ["kekd_server/app.py"],
    "kekd_server.storage.s3": ["kekd_server/app.py", "kekd_server/storage/s3_source.py"],
}


def sources() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            if not str(path.relative_to(ROOT)).startswith(GENERATED):
                yield f"{package}/{path.relative_to(folder)}", path


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("module", "path"), [pytest.param(*it, id=it[0]) for it in sources()])
def test_a_module_imports_only_what_it_may(module: str, path: Path) -> None:
    for name in imported(path):
        for target, places in ALLOWED.items():
            if name == target or name.startswith(f"{target}."):
                assert module.startswith(
                    tuple(f"{it}/" if it in PACKAGES else it for it in places)
                ), f"{module} imports {name}"


def test_the_client_needs_nothing_of_the_daemons() -> None:
    script = "import kekd, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert not {"kekd_server", "kekd_schema", "boto3", "flatbuffers", "pydantic"} & set(loaded)


def test_everything_public_is_listed_and_sorted() -> None:
    assert kekd.__all__ == sorted(kekd.__all__)
    public = {name for name in dir(kekd) if not name.startswith("_")}
    modules = {"errors", "kek", "os", "TYPE_CHECKING", "Any", "Final", "import_module"}
    assert public - modules == set(kekd.__all__)
    assert all(getattr(kekd, name) for name in kekd.__all__)


@pytest.mark.parametrize("servicer", [EnvelopeServicer, DaemonServicer])
def test_a_servicer_has_every_method_of_its_service(servicer: type) -> None:
    services = dict(envelope_pb2.DESCRIPTOR.services_by_name)
    services |= daemon_pb2.DESCRIPTOR.services_by_name
    service = services[servicer.__name__.replace("Servicer", "Service")]
    assert {method.name for method in service.methods} <= vars(servicer).keys()


def test_regenerating_changes_nothing(tmp_path: Path) -> None:
    outs = (f"PROTO_OUT={tmp_path}", f"SCHEMA_OUT={tmp_path}")
    subprocess.run(["make", "generate", *outs], cwd=ROOT, check=True, capture_output=True)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == 10
    for path in made:
        folder = "protos" if "kekd_proto" in path.parts else "schema/kekd_schema"
        assert filecmp.cmp(path, ROOT / folder / path.relative_to(tmp_path), shallow=False), path
