"""Measures calls as the keystore grows: kekd's client against cyborgdb_core."""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import kekd
from bench import daemon, keystore, reference
from bench.keystore import blob_of, name_of
from bench.plots import Curves
from bench.tables import Goal, Table, milliseconds, ratio

Verb = Literal["get", "push"]
Contender = Literal["kekd", "cyborgdb_core"]
Samples = Mapping[tuple[Contender, Verb, int], list[float]]
"""Seconds of each call, by contender, verb and keystore size."""

_SIZES = (1, 100, 1_000, 10_000, 100_000)
_VERBS: tuple[Verb, ...] = ("get", "push")
_ROUNDS = 3
_KEKD_CALLS: Mapping[Verb, int] = {"get": 200, "push": 40}
"""Calls in a round. The reference makes fewer calls at larger sizes, where each takes longer."""
_REFERENCE_CALLS = {1: 60, 100: 60, 1_000: 20, 10_000: 3, 100_000: 1}
_MAX_SLOWDOWN = 1.2
_MIN_SPEEDUPS = {1_000: 20, 10_000: 200, 100_000: 2_000}
"""cyborgdb_core's get ÷ kekd's, by keystore size."""


@dataclass(frozen=True, slots=True)
class Keystore:
    """A keystore folder, and a client of the daemon that serves it."""

    folder: Path
    client: kekd.Client

    def seconds(self, verb: Verb, number: int) -> float:
        """Returns the seconds of one `get_index_kms` or `push_index_kms`."""
        config, name, blob = (
            kekd.StorageConfig.disk(f"{self.folder}"),
            name_of(number),
            blob_of(number),
        )
        start = time.perf_counter()
        if verb == "push":
            self.client.push_index_kms(config, name, blob)
            return time.perf_counter() - start
        found = self.client.get_index_kms(config, name)
        seconds = time.perf_counter() - start
        assert found == blob
        return seconds


def tables(folder: Path) -> Iterator[Table]:
    with ExitStack() as stack:
        keystores = {size: _open(stack, folder / f"{size}", size) for size in _SIZES}
        samples = _sample(keystores, stack.enter_context(reference.running()))
    for verb in _VERBS:
        yield _table(verb, samples)


def _open(stack: ExitStack, folder: Path, size: int) -> Keystore:
    server = stack.enter_context(daemon.on_socket(keystore.fill(folder, size)))
    server.wait_until_idle()
    return Keystore(folder, stack.enter_context(kekd.Client(server.address)))


def _sample(keystores: Mapping[int, Keystore], cyborgdb: reference.Reference) -> Samples:
    """Alternates sizes and contenders, so that changes of the machine's speed affect all alike."""
    samples: defaultdict[tuple[Contender, Verb, int], list[float]] = defaultdict(list)
    random_numbers = random.Random(0)
    for _ in range(_ROUNDS):
        for verb in _VERBS:
            for size, kekd_keystore in keystores.items():
                numbers = random_numbers.choices(range(size), k=_KEKD_CALLS[verb])
                samples["kekd", verb, size] += [
                    kekd_keystore.seconds(verb, number) for number in numbers
                ]
                call = partial(cyborgdb.seconds, kekd_keystore.folder, verb)
                samples["cyborgdb_core", verb, size] += map(call, numbers[: _REFERENCE_CALLS[size]])
    return samples


def _table(verb: Verb, samples: Samples) -> Table:
    ours = [median(samples["kekd", verb, size]) for size in _SIZES]
    theirs = [median(samples["cyborgdb_core", verb, size]) for size in _SIZES]
    rows = [
        (
            f"{size:,}",
            milliseconds(mine),
            milliseconds(other),
            ratio(mine / ours[0]),
            ratio(other / theirs[0]),
            ratio(other / mine),
        )
        for size, mine, other in zip(_SIZES, ours, theirs, strict=True)
    ]
    header = (
        "envelopes",
        "kekd, ms",
        "cyborgdb_core, ms",
        "kekd ÷ its first row",
        "cyborgdb_core ÷ its first row",
        "cyborgdb_core ÷ kekd",
    )
    title = f"{verb} as the keystore grows, median of a call"
    if verb == "push":
        return Table(title, header, rows)
    curves = {"kekd": ours, "cyborgdb_core": theirs}
    return Table(title, header, rows, _goals(ours, theirs), _plot(curves))


def _goals(ours: Sequence[float], theirs: Sequence[float]) -> list[Goal]:
    what = f"get at {_SIZES[-1]:,} envelopes ÷ get at {_SIZES[0]}"
    speedups = {size: other / mine for size, mine, other in zip(_SIZES, ours, theirs, strict=True)}
    return [
        Goal(what, ours[-1] / ours[0], "at most", _MAX_SLOWDOWN),
        *(
            Goal(f"cyborgdb_core's get ÷ kekd's at {size:,}", speedups[size], "at least", minimum)
            for size, minimum in _MIN_SPEEDUPS.items()
        ),
    ]


def _plot(curves: Mapping[str, Sequence[float]]) -> Curves:
    points = {
        name: {size: value * 1e3 for size, value in zip(_SIZES, seconds, strict=True)}
        for name, seconds in curves.items()
    }
    title = "get_index_kms as the keystore grows"
    return Curves("get.svg", title, "envelopes in the keystore", "median of a get, ms", points)
