"""Measures the client's import, the start of `kekctl` and the daemon, and the daemon's memory."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import kekd
import kekd.testing
from bench import daemon, empty, keystore, load
from bench.keystore import name_of
from bench.process import ROOT
from bench.tables import Goal, Table, count, milliseconds, paired, ratio

_KEKD = "import kekd"
_FIRST_USE = "from kekd import Client"
"""Imports as much as a first call does, including gRPC."""
_GRPC = "import grpc"
_IMPORTS = (_KEKD, _FIRST_USE, _GRPC)
_IMPORT_ROUNDS = 21
_COMMAND_ROUNDS = 21
_START_ROUNDS = 9
_GETS = 10_000
"""Gets of different names, which fill every cache."""
_MAX_IMPORT_RATIO = 1.3
_MAX_GET_RATIO = 1.5
_MAX_GET_TO_PASS = 6.0
_MAX_START_RATIO = 1.7
_MAX_START_MILLISECONDS = 250.0
_MAX_TEST_START_MILLISECONDS = 300.0
_MAX_KIBIBYTES = 2.0
"""The most memory of a cached envelope."""
_PASS = "python -c pass"
_GRPC_CALL = """
import sys, grpc
_, address, method, request = sys.argv
grpc.insecure_channel(address).unary_unary(method)(bytes.fromhex(request))
"""
_ALONE = "a get with gRPC alone"
_KEKCTL_LIBRARIES = """
from kekd import _cli
_cli.defer_modules(_cli.DEFERRED_MODULES)
import click, google.protobuf.message_factory, grpc, grpc._channel
"""
_LIBRARIES = "imports of kekctl's libraries"
_DAEMON = """
import os, gc, kekd_server
gc.disable()
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
kekd_server.defer_modules(kekd_server.DEFERRED_MODULES)
"""
_END = "os._exit(0)"
"""Skips the interpreter's shutdown, which isn't part of a start."""
_EMPTY_IMPORTS = f"{_DAEMON}import bench.empty; {_END}"
_DAEMON_LIBRARIES = f"""
{_DAEMON}import bench.empty, asyncinotify, click, prometheus_client, yaml
from pydantic import BaseModel
class Model(BaseModel):
    field: int
{_END}
"""
_DAEMON_IMPORTS = f"""
{_DAEMON}import kekd_server.app, kekd_server.command, kekd_common.yaml_loader
{_END}
"""
_TEST = "kekd.testing.run_daemon()"
_MEBIBYTE = 1024 * 1024


def tables(folder: Path) -> Iterator[Table]:
    _compile()
    yield _import_table()
    yield command_table(folder, _COMMAND_ROUNDS)
    yield _start_table(folder)
    yield _daemon_import_table()
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


def _compile() -> None:
    """Writes the bytecode, as the installation of a package does."""
    folders = [ROOT / name for name in ("bench", "client", "common", "protos", "schema", "server")]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *folders], check=True)


def command_table(folder: Path, rounds: int) -> Table:
    kekctl = str(Path(sys.executable).with_name("kekctl"))
    request = load.request_of(0).SerializeToString().hex()
    with daemon.on_socket(keystore.fill(folder / "commands", 1)) as server:
        commands = {
            _PASS: [sys.executable, "-c", "pass"],
            _ALONE: [sys.executable, "-c", _GRPC_CALL, server.address, load.METHOD, request],
            "kekctl get": [kekctl, "--address", server.address, "get", name_of(0)],
            _LIBRARIES: [sys.executable, "-c", _KEKCTL_LIBRARIES],
            "kekctl --version": [kekctl, "--version"],
            "kekctl --help": [kekctl, "--help"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                seconds[name].append(_cpu_seconds(command))
    shares = {name: paired(times, seconds[_PASS]) for name, times in seconds.items()}
    rows = [
        (name, milliseconds(median(times)), ratio(shares[name])) for name, times in seconds.items()
    ]
    own = paired(seconds["kekctl get"], seconds[_ALONE])
    goals = [
        Goal(f"kekctl get ÷ {_ALONE}", own, "at most", _MAX_GET_RATIO),
        Goal(f"kekctl get ÷ {_PASS}", shares["kekctl get"], "at most", _MAX_GET_TO_PASS),
    ]
    return Table("CPU time of a command", ("", "ms", f"÷ {_PASS}"), rows, goals)


def _cpu_seconds(command: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _start_table(folder: Path) -> Table:
    seconds: dict[str, list[float]] = {"kekd": [], "empty handler": [], _TEST: []}
    for number in range(_START_ROUNDS):
        keystore_folder = keystore.fill(folder / f"start-{number}", 100)
        start = time.perf_counter()
        with daemon.on_socket(keystore_folder):
            seconds["kekd"].append(time.perf_counter() - start)
        start = time.perf_counter()
        with empty.on_loopback(folder):
            seconds["empty handler"].append(time.perf_counter() - start)
        start = time.perf_counter()
        with kekd.testing.run_daemon() as test, kekd.Client(test.address) as client:
            client.status()
            seconds[_TEST].append(time.perf_counter() - start)
    rows = [(server, milliseconds(median(times))) for server, times in seconds.items()]
    slowdown = paired(seconds["kekd"], seconds["empty handler"])
    rows.append(("kekd ÷ empty handler", ratio(slowdown)))
    own = median(seconds["kekd"]) * 1e3
    in_tests = median(seconds[_TEST]) * 1e3
    goals = [
        Goal("start to serving ÷ empty handler", slowdown, "at most", _MAX_START_RATIO),
        Goal("start to serving, ms", own, "at most", _MAX_START_MILLISECONDS),
        Goal(f"{_TEST}, ms", in_tests, "at most", _MAX_TEST_START_MILLISECONDS),
    ]
    return Table("Start of the process to the first answer that it serves", ("", "ms"), rows, goals)


def _daemon_import_table() -> Table:
    """Compares the daemon's imports with a baseline: an empty handler, and the libraries that kekd
    needs beside it.
    """
    imports = {
        "empty handler": _EMPTY_IMPORTS,
        "and the daemon's other libraries": _DAEMON_LIBRARIES,
        "kekd": _DAEMON_IMPORTS,
    }
    seconds: dict[str, list[float]] = {name: [] for name in imports}
    for _ in range(_COMMAND_ROUNDS):
        for name, code in imports.items():
            seconds[name].append(_cpu_seconds([sys.executable, "-c", code]))
    rows = [
        (name, milliseconds(median(times)), ratio(paired(times, seconds["empty handler"])))
        for name, times in seconds.items()
    ]
    return Table(
        "CPU time of an interpreter with the daemon's imports", ("", "ms", "÷ empty"), rows
    )


def _memory_table(folder: Path) -> Table:
    root = keystore.fill(folder / "memory", _GETS)
    with daemon.on_socket(root) as server, kekd.Client(server.address) as client:
        server.wait_until_idle()
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
    kibibytes = (after - idle) / _GETS / 1024
    goal = Goal("memory a cached envelope, KiB", kibibytes, "at most", _MAX_KIBIBYTES)
    return Table("Resident memory", ("", "MiB", "÷ empty handler"), rows, [goal])
