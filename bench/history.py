"""Measures the cost of a history on disk: pushes, gets, and the room of a version."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count as counter
from pathlib import Path
from statistics import median
from typing import Final

import kekd
from bench import daemon, keystore
from bench.keystore import blob_of, name_of
from bench.tables import Goal, Table, count, paired, ratio

_CALLERS: Final = 32
_ENVELOPES: Final = 1_000
_ROUNDS: Final = 9
_SECONDS: Final = 1.0
_MIN_PUSHES: Final = 0.85
_MIN_GETS: Final = 0.95
_VERSIONS: Final = 10

Call = Callable[[int], object]


def tables(folder: Path) -> Iterator[Table]:
    with_history = keystore.fill(folder / "with-history", _ENVELOPES)
    without = keystore.fill(folder / "without", _ENVELOPES)
    with (
        daemon.on_socket(with_history) as keeping,
        daemon.on_socket(without, flags=("--history-versions", "0")) as forgetting,
        kekd.Client(keeping.address) as with_client,
        kekd.Client(forgetting.address) as without_client,
    ):
        rows, shares = [], []
        for what, call_of in (("pushes", _push), ("gets", _get)):
            rates = [
                (_rate(call_of(with_client)), _rate(call_of(without_client)))
                for _ in range(_ROUNDS)
            ]
            with_rates, without_rates = zip(*rates, strict=True)
            shares.append(paired(with_rates, without_rates))
            medians = (count(median(with_rates)), count(median(without_rates)))
            rows.append((what, *medians, ratio(shares[-1])))
        goals = [
            Goal("pushes with a history ÷ without, 32 callers", shares[0], "at least", _MIN_PUSHES),
            Goal("gets with a history ÷ without, 32 callers", shares[1], "at least", _MIN_GETS),
        ]
        header = ("calls a second", "with a history", "without", "with ÷ without")
        yield Table("The cost of a history on disk, 32 callers", header, rows, goals)
        yield _room(with_history, with_client)


def _push(client: kekd.Client) -> Call:
    return lambda number: client.push_index_kms(None, name_of(number), blob_of(number))


def _get(client: kekd.Client) -> Call:
    return lambda number: client.get_index_kms(None, name_of(number))


def _rate(call: Call) -> float:
    """Returns the calls a second of `_CALLERS` threads, over all envelopes in turn."""
    numbers, start = counter(), time.perf_counter()

    def repeat(_: int) -> int:
        done = 0
        while time.perf_counter() - start < _SECONDS:
            call(next(numbers) % _ENVELOPES)
            done += 1
        return done

    with ThreadPoolExecutor(_CALLERS) as threads:
        calls = sum(threads.map(repeat, range(_CALLERS)))
    return calls / (time.perf_counter() - start)


def _room(root: Path, client: kekd.Client) -> Table:
    """Measures the disk that versions of one index take."""
    name = "measured"
    client.create_index_kms(None, name, blob_of(0))
    first = _blocks(root)
    for number in range(1, _VERSIONS):
        client.push_index_kms(None, name, blob_of(number))
    each = (_blocks(root) - first) / (_VERSIONS - 1)
    rows = [
        ("a version that is still the envelope", "0"),
        ("a version that was replaced", count(each)),
    ]
    return Table("Bytes on the disk of a version", ("", "bytes"), rows)


def _blocks(root: Path) -> int:
    """Returns the bytes that the files take on the disk, each inode once."""
    stats = (path.lstat() for path in (root / "_kekd/history").rglob("*"))
    inodes = {stat.st_ino: stat.st_blocks * 512 for stat in stats}
    return sum(inodes.values())
