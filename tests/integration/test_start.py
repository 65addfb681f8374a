"""Imports that would delay the start."""

import subprocess
import sys
from pathlib import Path

import kekd_server
from tests.fixtures.daemon import clean_environment
from tests.fixtures.s3 import free_port

SLOW = [
    "boto3",
    "cryptography",
    "flatbuffers",
    "grpc_reflection.v1alpha",
    "kekd_server.process.supervisor",
    "numpy",
    "opentelemetry",
    "platformdirs",
    "pythonjsonlogger",
    "yaml",
]
PROGRAM = f"""
import sys, kekd_server.command, kekd_server.app
print(*(name for name in {SLOW} if name in sys.modules))
"""


def test_start_imports_no_optional_module() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


SERVE = """
import os, sys
import kekd_server
from kekd_common.deferred_modules import DeferredModule
from kekd_server.process import systemd

def report():
    imported = {name for name, module in sys.modules.items() if type(module) is not DeferredModule}
    print(*imported.intersection(kekd_server.DEFERRED_MODULES))
    sys.stdout.flush()
    os._exit(0)

systemd.ready = report
if sys.argv.pop(1) == "immediate":
    kekd_server.defer_modules = lambda names: None
kekd_server.main()
"""
"""Starts a daemon, and prints which of the modules that it defers it has imported."""


def imported_of_the_deferred(folder: Path, *, imports: str) -> set[str]:
    (folder / "kekd.yaml").write_text("policy: [{name: all, identities: '*', methods: '*'}]")
    options = [
        *("--listen", f"unix:{folder}/kekd.sock", "--disk", str(folder / "keystore")),
        *("--create-stores", "--config", str(folder / "kekd.yaml")),
        *(
            "--audit",
            str(folder / "audit"),
            "--metrics",
            f"127.0.0.1:{free_port()}",
            "--log-format",
            "json",
        ),
    ]
    done = subprocess.run(
        [sys.executable, "-c", SERVE, imports, *options],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_daemon_that_serves_has_imported_no_deferred_module(tmp_path: Path) -> None:
    assert imported_of_the_deferred(tmp_path, imports="deferred") == set()


def test_daemon_without_deferral_imports_every_deferred_module(tmp_path: Path) -> None:
    imported = imported_of_the_deferred(tmp_path, imports="immediate")
    assert imported == set(kekd_server.DEFERRED_MODULES)
