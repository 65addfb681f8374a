"""Imports that would delay the start."""

import subprocess
import sys

SLOW = [
    "boto3",
    "cryptography",
    "flatbuffers",
    "grpc_reflection.v1alpha",
    "numpy",
    "opentelemetry",
    "platformdirs",
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
