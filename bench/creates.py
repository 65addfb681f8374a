"""Durable creates: the daemon, and a bare loop of the system calls that it makes for one."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count as counter
from pathlib import Path
from statistics import median

import kekd
from bench import daemon, keystore
from bench.keystore import blob_of
from bench.process import Server
from bench.tables import Table, count, microseconds, paired, ratio
from kekd_schema import encode

Create = Callable[[str], object]
"""Makes the envelope, or the file, of this name."""

_CALLERS = (1, 16)
_CPU_HEADER = ("daemon's CPU a create, µs", "client's CPU a create, µs")
_ROUNDS = 9
_SECONDS = 1.0
"""That a round lasts for each side."""


class BareLoop:
    """The system calls that kekd_server.storage.durable lists, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._records = f"{folder}/records"
        self._temporary = f"{folder}/tmp"
        self._content = encode(keystore.envelope_of(0))
        for path in (self._records, self._temporary):
            Path(path).mkdir(parents=True)

    def create(self, name: str) -> None:
        temporary = f"{self._temporary}/{name}"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(file, self._content)
        os.fsync(file)
        os.close(file)
        os.link(temporary, f"{self._records}/{name}")
        os.unlink(temporary)  # noqa: PTH108  (about system calls, so by their names)
        folder = os.open(self._records, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(folder)
        os.close(folder)


def tables(folder: Path) -> Iterator[Table]:
    bare, blob = BareLoop(folder / "bare"), blob_of(0)
    with (
        daemon.on_socket(keystore.fill(folder / "keystore", 0)) as server,
        kekd.Client(server.address) as client,
    ):

        def create(name: str) -> None:
            client.create_index_kms(None, name, blob)

        rows = [_row(callers, create, bare.create, server) for callers in _CALLERS]
    header = ("callers", "kekd", "bare system calls", "kekd ÷ bare", *_CPU_HEADER)
    yield Table("Durable creates per second, and the CPU time that kekd's take", header, rows)


def _row(callers: int, ours: Create, bare: Create, server: Server) -> tuple[str, ...]:
    our_rates, bare_rates, cpu = [], [], []
    for round_number in range(_ROUNDS):
        prefix = f"{callers}-{round_number}"
        before = (server.cpu_seconds(), time.process_time())
        created, seconds = _run(ours, callers, prefix)
        after = (server.cpu_seconds(), time.process_time())
        our_rates.append(created / seconds)
        created_bare, seconds = _run(bare, callers, prefix)
        bare_rates.append(created_bare / seconds)
        cpu.append([(end - start) / created for start, end in zip(before, after, strict=True)])
    rates = (median(our_rates), median(bare_rates))
    cpu_medians = (median(column) for column in zip(*cpu, strict=True))
    share = ratio(paired(our_rates, bare_rates))
    return (f"{callers}", *map(count, rates), share, *map(microseconds, cpu_medians))


def _run(create: Create, callers: int, prefix: str) -> tuple[int, float]:
    """What so many threads at once created, and in how many seconds.

    `prefix` keeps this round's names apart from another's.
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
        except Exception as error:  # noqa: BLE001  (of whatever kind: it ends the run below)
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
