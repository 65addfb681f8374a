"""Measures durable creates: the daemon against a bare loop of the same system calls."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count as counter
from pathlib import Path
from statistics import median

import kekd
from bench import daemon, keystore
from bench.keystore import blob_of
from bench.process import Server
from bench.tables import Goal, Table, count, microseconds, paired, ratio
from kekd_schema import encode
from kekd_server.listeners.engine import EngineName

Create = Callable[[str], object]
"""Creates the envelope or the file with this name."""

_ENGINES: tuple[EngineName, ...] = ("grpcio", "native")
_CALLERS = (1, 16, 32)
_MIN_SHARE = 0.4
"""The least share of the bare loop's rate, with the last engine and the most callers."""
_MAX_MICROSECONDS = 400.0
"""The most CPU time of the daemon for a create, with the same engine and callers."""
_CPU_HEADER = ("daemon's CPU a create, µs", "client's CPU a create, µs")
_ROUNDS = 9
_SECONDS = 1.0
"""Duration of a round for each contender."""


class BareLoop:
    """Only the system calls of a durable create: those that kekd_server.storage.disk.durable lists,
    and the folder of the first version.

    Each thread has its own temporary folder, as in kekd_server.storage.disk.driver.
    """

    def __init__(self, folder: Path) -> None:
        self._records, self._history = f"{folder}/records", f"{folder}/history"
        self._content = encode(keystore.envelope_of(0))
        Path(self._records).mkdir(parents=True)
        Path(self._history).mkdir()
        self._thread = _ThreadFolder(folder, counter())

    def create(self, name: str) -> None:
        file = os.open(self._thread.folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        os.write(file, self._content)
        os.fsync(file)
        os.mkdir(f"{self._history}/{name}")  # noqa: PTH102  (shows the system calls)
        unnamed = f"/proc/self/fd/{file}"
        os.link(unnamed, f"{self._history}/{name}/1", src_dir_fd=file, follow_symlinks=True)
        os.link(unnamed, f"{self._records}/{name}", src_dir_fd=file, follow_symlinks=True)
        os.close(file)
        folder = os.open(self._records, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(folder)
        os.close(folder)


class _ThreadFolder(threading.local):
    def __init__(self, parent: Path, numbers: Iterator[int]) -> None:
        self.folder = parent / f"{next(numbers)}"
        self.folder.mkdir()


def tables(folder: Path) -> Iterator[Table]:
    yield table(folder, _ENGINES, _CALLERS, _ROUNDS)


def table(
    folder: Path, engines: Sequence[EngineName], all_callers: Sequence[int], rounds: int
) -> Table:
    """The goals are for the last engine, with the most callers."""
    rows: list[tuple[str, ...]] = []
    for engine in engines:
        bare = BareLoop(folder / f"bare-{engine}")
        root = keystore.fill(folder / f"keystore-{engine}", 0)
        with daemon.on_socket(root, engine) as server, kekd.Client(server.address) as client:
            for callers in all_callers:
                figures, share, cpu = _measure(callers, client, bare, server, rounds)
                rows.append((engine, f"{callers}", *figures))
    header = ("engine", "callers", "kekd", "bare system calls", "kekd ÷ bare", *_CPU_HEADER)
    how = f"engine {engines[-1]}, {all_callers[-1]} callers"
    goals = [
        Goal(f"durable creates ÷ bare system calls, {how}", share, "at least", _MIN_SHARE),
        Goal(f"daemon's CPU a durable create, µs, {how}", cpu * 1e6, "at most", _MAX_MICROSECONDS),
    ]
    return Table("Durable creates per second, and the CPU time of kekd's", header, rows, goals)


def _measure(
    callers: int, client: kekd.Client, bare: BareLoop, server: Server, rounds: int
) -> tuple[tuple[str, ...], float, float]:
    """Returns the figures of a row, kekd's rate divided by the bare one, and the daemon's CPU
    seconds of a create.
    """
    blob = blob_of(0)

    def create(name: str) -> None:
        client.create_index_kms(None, name, blob)

    our_rates, bare_rates, cpu = [], [], []
    for round_number in range(rounds):
        prefix = f"{callers}-{round_number}"
        before = (server.cpu_seconds(), time.process_time())
        created, seconds = run_callers(create, callers, prefix)
        after = (server.cpu_seconds(), time.process_time())
        our_rates.append(created / seconds)
        created_bare, seconds = run_callers(bare.create, callers, prefix)
        bare_rates.append(created_bare / seconds)
        cpu.append([(end - start) / created for start, end in zip(before, after, strict=True)])
    rates = (median(our_rates), median(bare_rates))
    own_cpu, client_cpu = (median(column) for column in zip(*cpu, strict=True))
    share = paired(our_rates, bare_rates)
    figures = (*map(count, rates), ratio(share), *map(microseconds, (own_cpu, client_cpu)))
    return figures, share, own_cpu


def run_callers(create: Create, callers: int, prefix: str) -> tuple[int, float]:
    """Creates from `callers` threads; returns the number of creates and the seconds taken.

    `prefix` separates the names of the rounds.
    """
    done: list[int] = []
    failures: list[Exception] = []
    start = time.perf_counter()

    def call(caller: int) -> None:
        try:
            for number in counter():
                if time.perf_counter() - start >= _SECONDS:
                    done.append(number)
                    return
                create(f"{prefix}-{caller}-{number}")
        except Exception as error:  # noqa: BLE001  (raised below, in the main thread)
            failures.append(error)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if failures:
        raise failures[0]
    return sum(done), elapsed
