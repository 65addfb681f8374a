"""Checks the import rules, the public names, and that generated code is up to date."""

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
from kekd_server.rpc.status_servicer import DaemonServicer

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "kekd": ROOT / "client" / "kekd",
    "kekd_common": ROOT / "common" / "kekd_common",
    "kekd_proto": ROOT / "protos" / "kekd_proto",
    "kekd_schema": ROOT / "schema" / "kekd_schema",
    "kekd_server": ROOT / "server" / "kekd_server",
}
GENERATED = ("protos/kekd_proto/v1", "schema/kekd_schema/kms_blob_generated.py")

# The modules and packages of each floor, the lowest first. A module may import its own entry and
# lower floors.
FLOORS = {
    "kekd_server": [
        ("model",),
        ("listeners",),
        ("observability",),
        ("storage",),
        ("access",),
        ("config", "service", "daemon_status"),
        ("process", "rpc", "stores"),
        ("daemon",),
        ("app",),
        ("__main__", "command", "worker", "child"),
    ],
    "kekd": [
        ("errors", "_status"),
        ("_models",),
        ("_transport",),
        ("_operations",),
        ("_cache",),
        ("_client", "_async_client"),
        ("_api", "cyborgdb"),
        ("kek.errors", "kek.key_pattern", "kek.rate_limiter"),
        ("kek.encryption_context", "kek.slot"),
        ("kek.provider",),
        ("kek.aws",),
        ("kek",),
        ("_cli", "testing"),
        ("__main__",),
    ],
}

# Module -> the only places that may import it.
ALLOWED = {
    "kekd": ["kekd"],
    "kekd_server": ["kekd/__main__.py", "kekd_server"],
    "kekd_common": ["kekd", "kekd_common", "kekd_server"],
    "kekd_common.policy": ["kekd/_cli/policy.py", "kekd_common/policy", "kekd_server"],
    "kekd_schema": ["kekd_schema", "kekd_server"],
    "kekd_proto": ["kekd", "kekd_proto", "kekd_server/rpc"],
    "grpc": [
        "kekd/_transport",
        "kekd_proto/services.py",
        "kekd_server/rpc",
    ],
    "grpc_health": ["kekd/_operations/daemon.py", "kekd_server/rpc"],
    "grpc_reflection": ["kekd_server/rpc"],
    "boto3": ["kekd_common/aws_credentials.py"],
    "botocore": ["kekd_common/aws_credentials.py", "kekd_server/storage/s3", "kekd/kek/aws"],
    "httptools": ["kekd_server/storage/s3"],
    "asyncinotify": ["kekd_server/storage/disk/watcher.py"],
    "cryptography": [
        "kekd/_cli/doctor/certificate.py",
        "kekd/kek/aws/secrets.py",
        "kekd_server/access/identity/certificate_identity.py",
        "kekd_server/listeners/certificates.py",
        "kekd_server/model/certificate_strength.py",
    ],
    "flatbuffers": ["kekd_schema/codec.py"],
    "opentelemetry": ["kekd_server/observability/tracing.py"],
    "prometheus_client": ["kekd_server/observability"],
    "pydantic": ["kekd_server/config", "kekd_common/policy", "kekd/kek/registry_file.py"],
    "yaml": ["kekd_common/yaml_loader.py"],
    "kekd_schema.kms_blob_generated": ["kekd_schema/codec.py"],
    # Only to run a call in OpenTelemetry's context: request state is passed as an argument.
    "cyborgdb_core": ["kekd/cyborgdb"],
    "pytest": ["kekd/testing/plugin.py"],
    "contextvars": [
        "kekd_server/storage/driver_calls.py",
        "kekd_server/storage/writes/groups.py",
        "kekd_server/storage/writes/steps.py",
    ],
    "contextvars.ContextVar": [],
    # Use cases reach a store through a grant alone.
    "kekd_server.storage.registry": [
        "kekd_server/access/authorizer.py",
        "kekd_server/daemon.py",
        "kekd_server/storage",
        "kekd_server/stores.py",
    ],
    "kekd_server.storage.factory": ["kekd_server/stores.py"],
    "kekd_server.storage.store": [
        "kekd_server/access/audit/audited_store.py",
        "kekd_server/storage",
        "kekd_server/stores.py",
    ],
    "kekd_server.storage.disk": ["kekd_server/storage/factory.py", "kekd_server/storage/disk"],
    "kekd_server.storage.memory.driver": ["kekd_server/storage/factory.py"],
    "kekd_server.storage.s3": ["kekd_server/storage/factory.py", "kekd_server/storage/s3"],
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
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(
    ("module", "path"), [pytest.param(module, path, id=module) for module, path in sources()]
)
def test_module_imports_only_allowed_modules(module: str, path: Path) -> None:
    for name in imported(path):
        for target, places in ALLOWED.items():
            if name == target or name.startswith(f"{target}."):
                assert module.startswith(
                    tuple(f"{place}/" if place in PACKAGES else place for place in places)
                ), f"{module} imports {name}"


def floor_and_entry(name: str) -> tuple[int, str]:
    """Returns the floor and the entry of a module, which may be one of its packages."""
    package, _, module = name.partition(".")
    found = [
        (number, part)
        for number, parts in enumerate(FLOORS[package])
        for part in parts
        if f"{module}.".startswith(f"{part}.")
    ]
    assert found, f"{name} is on no floor"
    return max(found, key=lambda placed: len(placed[1]))


@pytest.mark.parametrize(
    ("module", "path"),
    [
        pytest.param(module.removesuffix(".py").replace("/", "."), path, id=module)
        for module, path in sources()
        if module.partition("/")[0] in FLOORS
        and module not in {f"{package}/__init__.py" for package in FLOORS}
    ],
)
def test_module_imports_nothing_from_above(module: str, path: Path) -> None:
    package = module.partition(".")[0]
    floor, entry = floor_and_entry(module)
    for name in imported(path):
        if name.startswith(f"{package}."):
            below, other = floor_and_entry(name)
            assert other == entry or below < floor, f"{module} imports {name}"


@pytest.mark.external
def test_client_needs_nothing_of_the_daemons() -> None:
    script = "import kekd, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert not {"kekd_server", "kekd_schema", "boto3", "flatbuffers", "pydantic"} & set(loaded)


def test_everything_public_is_listed_and_sorted() -> None:
    assert kekd.__all__ == sorted(kekd.__all__)
    public = {name for name in dir(kekd) if not name.startswith("_")}
    modules = {"cyborgdb", "errors", "kek", "os", "testing", "TYPE_CHECKING", "lazy_exports"}
    assert public - modules == set(kekd.__all__) - {"__version__"}
    assert all(getattr(kekd, name) for name in kekd.__all__)


@pytest.mark.parametrize("servicer", [EnvelopeServicer, DaemonServicer])
def test_servicer_has_every_method_of_its_service(servicer: type) -> None:
    services = dict(envelope_pb2.DESCRIPTOR.services_by_name)
    services |= daemon_pb2.DESCRIPTOR.services_by_name
    service = services[servicer.__name__.replace("Servicer", "Service")]
    assert {method.name for method in service.methods} <= vars(servicer).keys()


@pytest.mark.external
def test_regenerating_changes_nothing(tmp_path: Path) -> None:
    outs = (f"PROTO_OUT={tmp_path}", f"SCHEMA_OUT={tmp_path}")
    subprocess.run(["make", "generate", *outs], cwd=ROOT, check=True, capture_output=True)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == 7
    for path in made:
        folder = "protos" if "kekd_proto" in path.parts else "schema/kekd_schema"
        assert filecmp.cmp(path, ROOT / folder / path.relative_to(tmp_path), shallow=False), path
