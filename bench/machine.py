"""Describes the machine that the figures were measured on."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.tables import Table


def table(folder: Path) -> Table:
    rows = [
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("load average before the run", f"{os.getloadavg()[0]:.2f}"),
        ("kernel", platform.release()),
        ("filesystem of the envelopes", _filesystem(folder)),
        ("Python", platform.python_version()),
        *((package, version(package)) for package in ("grpcio", "protobuf", "cyborgdb-core")),
    ]
    return Table("Machine", ("", ""), rows)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    command = ["df", "--output=fstype", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
