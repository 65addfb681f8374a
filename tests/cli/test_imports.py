"""Checks what kekctl imports: imports take nearly all of its time."""

import subprocess
import sys
from pathlib import Path

import pytest

import kekd
from kekd import _cli
from tests.fixtures.daemon import Daemon, clean_environment

KEKCTL = str(Path(sys.executable).with_name("kekctl"))
AT_COMPLETION = {"_KEKCTL_COMPLETE": "bash_complete", "COMP_WORDS": "kekctl ", "COMP_CWORD": "1"}
KEEP_DEFERRED = """
import sys
from kekd import _cli
from kekd_common.deferred_modules import DeferredModule

if sys.argv.pop(1) == "immediate":
    _cli.defer_modules = lambda names: None
try:
    _cli.main()
finally:
    for name in _cli.DEFERRED_MODULES:
        if name in sys.modules and not isinstance(sys.modules[name], DeferredModule):
            print(name, file=sys.stderr)
"""
"""Runs kekctl, and prints which of the modules that it defers it has imported."""
POLICY = "policy: [{name: all, identities: '*', methods: '*'}]"


def imported_by(*arguments: str, env: dict[str, str] | None = None) -> set[str]:
    """Runs kekctl, and returns the modules and packages that it has imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", KEKCTL, *arguments],
        env=clean_environment() | (env or {}),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def imported_of_the_deferred(address: str, *arguments: str, imports: str = "deferred") -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", KEEP_DEFERRED, imports, "--address", address, *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_version_is_shown_without_importing_a_command() -> None:
    imported = imported_by("--version")
    assert "kekd._cli.common" in imported
    unused = {"google.protobuf", "grpc", "importlib.metadata", "kekd._cli.envelopes"}
    assert not imported & unused


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--help"], {}),
        (["get", "--help"], {}),
        (["audit", "tail", "/dev/null"], {}),
        ([], AT_COMPLETION),
        ([], AT_COMPLETION | {"COMP_WORDS": "kekctl get --ad", "COMP_CWORD": "2"}),
        (["help", "get"], {}),
        (["version", "--client"], {}),
        (["completion", "zsh"], {}),
        (["config", "get-contexts"], {}),
    ],
    ids=[
        *("help", "help-of-get", "audit", "completion", "completion-of-options"),
        *("help-command", "version", "script", "config"),
    ],
)
def test_command_without_a_call_does_not_import_grpc(
    arguments: list[str], env: dict[str, str]
) -> None:
    imported = imported_by(*arguments, env=env)
    assert "kekd._cli.common" in imported
    unused = {"boto3", "cryptography", "google.protobuf", "grpc", "kekd._client", "pydantic"}
    assert not imported & unused


def test_policy_is_checked_without_importing_grpc(tmp_path: Path) -> None:
    config = tmp_path / "kekd.yaml"
    config.write_text(POLICY)
    options = ["--config", str(config), "--identity", "dns:a", "--method", "read"]
    imported = imported_by("policy", "check", *options)
    assert "kekd_common.policy.rules" in imported
    assert "grpc" not in imported


def test_get_imports_only_what_it_uses(memory_daemon: Daemon) -> None:
    with kekd.Client(memory_daemon.address) as client:
        client.push_index_kms(None, "my_index", kekd.KMSBlob(provider="none"))
    imported = imported_by("--address", memory_daemon.address, "get", "my_index")
    assert "grpc" in imported
    unused = {
        "asyncio",
        "boto3",
        "google.protobuf.descriptor_pb2",
        "google.protobuf.json_format",
        "importlib.metadata",
        "kekd._async_client",
        "kekd._cache.envelope_cache",
        "kekd._cache.watcher",
        "kekd._cli.backup.json_lines",
        "kekd._cli.output.command_line",
        "kekd._cli.options.contexts",
        "kekd._cli.dry_run",
        "kekd._cli.output.envelope_table",
        "kekd._cli.keks",
        "kekd._cli.private_file",
        "kekd._cli.output.yaml_format",
        "kekd._models.event",
        "kekd._models.history",
        "kekd._models.s3_credentials",
        "kekd._operations.batches",
        "kekd._operations.daemon",
        "kekd._operations.history",
        "kekd._operations.watching",
        "kekd._status",
        "kekd._transport.tls_credentials",
        "kekd._transport.watch",
        "kekd.kek.registry",
        "pydantic",
        "random",
        "ssl",
        "tenacity",
    }
    assert not imported & unused


def test_get_imports_no_deferred_module(memory_daemon: Daemon) -> None:
    with kekd.Client(memory_daemon.address) as client:
        client.push_index_kms(None, "my_index", kekd.KMSBlob(provider="none"))
    get = (memory_daemon.address, "get", "my_index")
    assert imported_of_the_deferred(*get) == set()
    assert imported_of_the_deferred(*get, "--output", "json") == {"base64", "binascii", "json"}


def test_get_without_deferral_imports_every_deferred_module(memory_daemon: Daemon) -> None:
    with kekd.Client(memory_daemon.address) as client:
        client.push_index_kms(None, "my_index", kekd.KMSBlob(provider="none"))
    get = (memory_daemon.address, "get", "my_index")
    assert imported_of_the_deferred(*get, imports="immediate") == set(_cli.DEFERRED_MODULES)
