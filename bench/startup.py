"""Measures the client's import, the daemon's start, and the daemon's memory."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import kekd
from bench import daemon, empty, keystore
from bench.keystore import name_of
from bench.tables import Goal, Table, count, milliseconds, paired, ratio

_KEKD = "import kekd"
_FIRST_USE = "from kekd import Client"
"""Imports as much as a first call does, including gRPC."""
_GRPC = "import grpc"
_IMPORTS = (_KEKD, _FIRST_USE, _GRPC)
_IMPORT_ROUNDS = 21
_START_ROUNDS = 9
_GETS = 10_000
"""Gets of different names, which fill every cache."""
_MAX_IMPORT_RATIO = 1.3
_MEBIBYTE = 1024 * 1024


def tables(folder: Path) -> Iterator[Table]:
    yield _import_table()
    yield _start_table(folder)
    yield _memory_table(folder)


def _import_table() -> Table:
    seconds: dict[str, list[float]] = {statement: [] for statement in _IMPORTS}
    for statement in _IMPORTS:
        _import_seconds(statement)  # compiles the modules
    for _ in range(_IMPORT_ROUNDS):
        for statement in _IMPORTS:
            seconds[statement].append(_import_seconds(statement))
    shares = {statement: paired(times, seconds[_GRPC]) for statement, times in seconds.items()}
    rows = [
        (statement, milliseconds(median(times)), ratio(shares[statement]))
        for statement, times in seconds.items()
    ]
    goal = Goal(f"{_KEKD} ÷ {_GRPC}", shares[_KEKD], "at most", _MAX_IMPORT_RATIO)
    return Table("Import in a fresh interpreter", ("", "ms", f"÷ {_GRPC}"), rows, [goal])


def _import_seconds(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    command = [sys.executable, "-I", "-c", code]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _start_table(folder: Path) -> Table:
    seconds: dict[str, list[float]] = {"kekd": [], "empty handler": []}
    for number in range(_START_ROUNDS):
        keystore_folder = keystore.fill(folder / f"start-{number}", 100)
        start = time.perf_counter()
        with daemon.on_socket(keystore_folder):
            seconds["kekd"].append(time.perf_counter() - start)
        start = time.perf_counter()
        with empty.on_loopback(folder):
            seconds["empty handler"].append(time.perf_counter() - start)
    rows = [(server, milliseconds(median(times))) for server, times in seconds.items()]
    rows.append(("kekd ÷ empty handler", ratio(paired(*seconds.values()))))
    return Table("Start of the process to the first answer that it serves", ("", "ms"), rows)


def _memory_table(folder: Path) -> Table:
    root = keystore.fill(folder / "memory", _GETS)
    with daemon.on_socket(root) as server, kekd.Client(server.address) as client:
        idle = server.resident_bytes()
        for number in range(_GETS):
            client.get_index_kms(None, name_of(number))
        after = server.resident_bytes()
    with empty.on_loopback(folder) as empty_server:
        baseline = empty_server.resident_bytes()
    rows = [
        ("kekd, idle", count(idle / _MEBIBYTE), ratio(idle / baseline)),
        (f"kekd, after {_GETS:,} gets", count(after / _MEBIBYTE), ratio(after / baseline)),
        ("empty handler, idle", count(baseline / _MEBIBYTE), ratio(1)),
    ]
    return Table("Resident memory", ("", "MiB", "÷ empty handler"), rows)
