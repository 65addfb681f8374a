"""Measures writing many envelopes: batches and imports against a bare loop of system calls."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count as counter
from pathlib import Path
from statistics import median

import kekd
from bench import daemon, keystore
from bench.creates import BareLoop, run_callers
from bench.keystore import blob_of
from bench.process import Server
from bench.tables import Goal, Table, count, microseconds, paired, ratio
from kekd._cli.backup.restore import restore
from kekd._cli.output.json_format import EnvelopeJSON

Write = Callable[[str], object]
"""Writes `_BATCH` envelopes, whose names start with a prefix."""

_BATCH = 1_000
_IN_FLIGHT = 4
"""Callers that push a batch at the same time."""
_DAEMON_THREADS = 16
"""Of a store on disk, for the bare loop."""
_ROUNDS = 9
_ROUND_NUMBERS = counter()
_HEADER = ("write", "at once", "kekd", "bare", "kekd ÷ bare", "daemon's CPU a write, µs")
_MIN_SHARE = 1.0
"""The least share of the bare loop's rate."""


def tables(folder: Path) -> Iterator[Table]:
    bare = BareLoop(folder / "bare")
    root = keystore.fill(folder / "keystore", 0)
    with daemon.on_socket(root, "native") as server, kekd.Client(server.address) as client:
        yield table(client, server, bare, _ROUNDS)


def table(client: kekd.Client, server: Server, bare: BareLoop, rounds: int) -> Table:
    rows, goals = [], []
    for what, callers, write in (
        (f"BatchPush of {_BATCH:,}", 1, partial(_push, client)),
        (f"BatchPush of {_BATCH:,}", _IN_FLIGHT, partial(_push, client)),
        ("kekctl import", 1, partial(_import, client)),
    ):
        figures, share = _measure(write, callers, server, bare, rounds)
        rows.append((what, f"{callers}", *figures))
        goal = f"{what}, {callers} at once ÷ bare system calls"
        goals.append(Goal(goal, share, "at least", _MIN_SHARE))
    title = f"Durable writes per second in bulk; bare system calls in {_DAEMON_THREADS} threads"
    return Table(title, _HEADER, rows, goals)


def _measure(
    write: Write, callers: int, server: Server, bare: BareLoop, rounds: int
) -> tuple[tuple[str, ...], float]:
    """Returns the figures of a row, and kekd's rate divided by the bare one."""
    rates, bare_rates, cpu = [], [], []
    written = callers * _BATCH
    for _ in range(rounds):
        prefix = f"{next(_ROUND_NUMBERS)}"
        before = server.cpu_seconds()
        rates.append(written / _run(write, callers, prefix))
        cpu.append((server.cpu_seconds() - before) / written)
        created, seconds = run_callers(bare.create, _DAEMON_THREADS, prefix)
        bare_rates.append(created / seconds)
    share = paired(rates, bare_rates)
    own, bare_rate = median(rates), median(bare_rates)
    return (count(own), count(bare_rate), ratio(share), microseconds(median(cpu))), share


def _push(client: kekd.Client, prefix: str) -> None:
    pushes = [(name, blob_of(0), None) for name in _names(prefix)]
    for _, result in client.push_many_index_kms(None, pushes):
        assert not isinstance(result, kekd.EnvelopeError)


def _import(client: kekd.Client, prefix: str) -> None:
    """As `kekctl import` does, without the start of its process."""
    envelopes = [EnvelopeJSON(name, blob_of(0)) for name in _names(prefix)]
    for result in restore(client, None, envelopes, overwrite=False, dry_run=False):
        assert result.outcome == "created"


def _names(prefix: str) -> list[str]:
    return [f"{prefix}-{number}" for number in range(_BATCH)]


def _run(write: Write, callers: int, prefix: str) -> float:
    """Returns the seconds taken."""
    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(write, [f"{prefix}-{caller}" for caller in range(callers)]))
    return time.perf_counter() - start
