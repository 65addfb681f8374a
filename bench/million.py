"""Compares a get at a million envelopes with a get at one."""

import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

import kekd
from bench import daemon, keystore
from bench.keystore import blob_of, name_of
from bench.tables import Goal, Table, count, milliseconds, paired, ratio

_SIZES = (1, 1_000_000)
_ROUNDS = 9
_GETS = 500
"""Gets in a round."""
_MAX_SLOWDOWN = 1.1
_WITHOUT_HISTORY = ("--history-versions", "0")
"""After a start, a daemon compares a million histories with their records for some ten minutes."""


def tables(folder: Path) -> Iterator[Table]:
    with ExitStack() as stack:
        clients = {}
        for size in _SIZES:
            root = stack.enter_context(_keystore(folder / f"{size}", size))
            server = stack.enter_context(daemon.on_socket(root, flags=_WITHOUT_HISTORY))
            clients[size] = stack.enter_context(kekd.Client(server.address))
        os.sync()  # before the measurement
        random_numbers = random.Random(0)
        rounds: dict[int, list[list[float]]] = {size: [] for size in _SIZES}
        for number in range(_ROUNDS):
            for size in sorted(_SIZES, reverse=bool(number % 2)):
                numbers = random_numbers.choices(range(size), k=_GETS)
                rounds[size].append([_seconds(clients[size], index) for index in numbers])
        yield _table(rounds)


@contextmanager
def _keystore(folder: Path, size: int) -> Iterator[Path]:
    """Fills a folder, and removes it at the end with rm, which is faster than Python."""
    try:
        yield keystore.fill(folder, size, with_versions=False)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def _seconds(client: kekd.Client, number: int) -> float:
    name = name_of(number)
    start = time.perf_counter()
    found = client.get_index_kms(None, name)
    seconds = time.perf_counter() - start
    assert found == blob_of(number)
    return seconds


def _table(rounds: dict[int, list[list[float]]]) -> Table:
    p50 = [[median(seconds) for seconds in rounds[size]] for size in _SIZES]
    p99 = [[quantiles(seconds, n=100)[-1] for seconds in rounds[size]] for size in _SIZES]
    rows = [
        (count(size), milliseconds(median(middle)), milliseconds(median(end)))
        for size, middle, end in zip(_SIZES, p50, p99, strict=True)
    ]
    slowdown = _last_to_first(p50)
    rows.append(("the second ÷ the first", ratio(slowdown), ratio(_last_to_first(p99))))
    what = f"p50 of get at {_SIZES[-1]:,} envelopes ÷ at {_SIZES[0]}"
    goal = Goal(what, slowdown, "at most", _MAX_SLOWDOWN)
    return Table("get at a million envelopes", ("envelopes", "p50, ms", "p99, ms"), rows, [goal])


def _last_to_first(rounds: Sequence[Sequence[float]]) -> float:
    first, last = rounds
    return paired(last, first)
