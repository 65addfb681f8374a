"""Measures the cost of a history: pushes, gets, and the room of a version."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count as counter
from pathlib import Path
from statistics import median
from typing import Final
from unittest.mock import patch

import kekd
from bench import daemon, keystore, s3_stub
from bench.keystore import blob_of, name_of
from bench.s3_contender import CREDENTIALS, Kekd
from bench.tables import Goal, Table, count, paired, ratio

_CALLERS: Final = 32
_ENVELOPES: Final = 1_000
_ROUNDS: Final = 9
_SECONDS: Final = 1.0
_WITHOUT: Final = ("--history-versions", "0")
_MIN_PUSHES: Final = 0.85
_MIN_S3_PUSHES: Final = 0.5
_MIN_GETS: Final = 0.95
_VERSIONS: Final = 10

Call = Callable[[int], object]


def tables(folder: Path) -> Iterator[Table]:
    with_history = keystore.fill(folder / "with-history", _ENVELOPES)
    without = keystore.fill(folder / "without", _ENVELOPES)
    with (
        daemon.on_socket(with_history) as keeping,
        daemon.on_socket(without, flags=_WITHOUT) as forgetting,
        kekd.Client(keeping.address) as with_client,
        kekd.Client(forgetting.address) as without_client,
    ):
        yield _rates_table("on disk", with_client, without_client, _MIN_PUSHES)
        yield _room(with_history, with_client)
    # A bucket for each: a push keeps two versions if another daemon wrote the one before.
    with (
        patch.dict(os.environ, CREDENTIALS),
        s3_stub.on_loopback(folder, 0, _ENVELOPES) as kept_bucket,
        s3_stub.on_loopback(folder, 0, _ENVELOPES) as other_bucket,
        Kekd("with", folder / "s3-with", kept_bucket) as s3_with,
        Kekd("without", folder / "s3-without", other_bucket, flags=_WITHOUT) as s3_without,
    ):
        where = "on S3 (stub, without versioning)"
        yield _rates_table(where, s3_with.client, s3_without.client, _MIN_S3_PUSHES)


def _rates_table(
    where: str, with_client: kekd.Client, without_client: kekd.Client, min_pushes: float
) -> Table:
    rows, shares = [], []
    for what, call_of in (("pushes", _push), ("gets", _get)):
        rates = [
            (_rate(call_of(with_client)), _rate(call_of(without_client))) for _ in range(_ROUNDS)
        ]
        with_rates, without_rates = zip(*rates, strict=True)
        shares.append(paired(with_rates, without_rates))
        medians = (count(median(with_rates)), count(median(without_rates)))
        rows.append((what, *medians, ratio(shares[-1])))
    what = f"{where}, with a history ÷ without, {_CALLERS} callers"
    goals = [
        Goal(f"pushes {what}", shares[0], "at least", min_pushes),
        Goal(f"gets {what}", shares[1], "at least", _MIN_GETS),
    ]
    header = ("calls a second", "with a history", "without", "with ÷ without")
    return Table(f"The cost of a history {where}, {_CALLERS} callers", header, rows, goals)


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
