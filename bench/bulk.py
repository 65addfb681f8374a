"""Measures reading many envelopes: a batch against single gets, and a full listing."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import kekd
from bench import daemon, keystore
from bench.keystore import blob_of, name_of
from bench.tables import Goal, Table, count, milliseconds, paired, ratio
from kekd_server.listeners.engine import EngineName

Clients = dict[EngineName, kekd.Client]

_ENGINES: tuple[EngineName, ...] = ("grpcio", "native")
"""The first is the default, which the goals apply to."""
_ENVELOPES = 100_000
_BATCH = 1_000
_BATCH_ROUNDS = 9
_SCAN_ROUNDS = 5
_CACHED_ENVELOPES = 10_000
"""So few that the daemon keeps them all in memory."""
_MIN_GETS_TO_BATCH = 50.0
_MIN_SCAN_RATE = 120_000


def tables(folder: Path) -> Iterator[Table]:
    with _clients(folder / "keystore", _ENVELOPES) as clients:
        yield batch_table(clients, _ENVELOPES, _BATCH_ROUNDS)
        rates = _scan_rates(clients, _ENVELOPES)
    with _clients(folder / "cached", _CACHED_ENVELOPES) as clients:
        _scan_rates(clients, _CACHED_ENVELOPES)  # fills the caches
        cached_rates = _scan_rates(clients, _CACHED_ENVELOPES)
        yield batch_table(clients, _CACHED_ENVELOPES, _BATCH_ROUNDS)
    yield _scan_table(rates, cached_rates)


@contextmanager
def _clients(folder: Path, envelopes: int) -> Iterator[Clients]:
    root = keystore.fill(folder, envelopes)
    with ExitStack() as stack:
        clients: Clients = {}
        for engine in _ENGINES:
            server = stack.enter_context(daemon.on_socket(root, engine))
            server.wait_until_idle()
            clients[engine] = stack.enter_context(kekd.Client(server.address))
        yield clients


def batch_table(clients: Clients, envelopes: int, rounds: int) -> Table:
    gets: dict[EngineName, list[float]] = {engine: [] for engine in clients}
    batches: dict[EngineName, list[float]] = {engine: [] for engine in clients}
    random_numbers = random.Random(0)
    for round_number in range(rounds):
        for engine, client in clients.items():
            numbers = random_numbers.sample(range(envelopes), 2 * _BATCH)
            if round_number % 2:
                batches[engine].append(_batch(client, numbers[_BATCH:]))
            gets[engine].append(_gets(client, numbers[:_BATCH]))
            if not round_number % 2:
                batches[engine].append(_batch(client, numbers[_BATCH:]))
    shares = {engine: paired(gets[engine], batches[engine]) for engine in clients}
    rows = [
        (
            engine,
            milliseconds(median(gets[engine])),
            milliseconds(median(batches[engine])),
            ratio(shares[engine]),
        )
        for engine in clients
    ]
    what = f"{_BATCH:,} gets ÷ a BatchGet of {_BATCH:,}, of {envelopes:,}"
    goal = Goal(what, next(iter(shares.values())), "at least", _MIN_GETS_TO_BATCH)
    header = ("engine", "gets, ms", "BatchGet, ms", "gets ÷ BatchGet")
    return Table(f"{_BATCH:,} envelopes of {envelopes:,}", header, rows, [goal])


def _gets(client: kekd.Client, numbers: Sequence[int]) -> float:
    """Returns the seconds taken."""
    names = [name_of(number) for number in numbers]
    start = time.perf_counter()
    found = [client.get_index_kms(None, name) for name in names]
    seconds = time.perf_counter() - start
    assert found == [blob_of(number) for number in numbers]
    return seconds


def _batch(client: kekd.Client, numbers: Sequence[int]) -> float:
    """Returns the seconds taken."""
    names = [name_of(number) for number in numbers]
    start = time.perf_counter()
    found = list(client.get_many_index_kms(None, names))
    seconds = time.perf_counter() - start
    assert found == [(name_of(number), blob_of(number)) for number in numbers]
    return seconds


def _scan_rates(clients: Clients, envelopes: int) -> dict[EngineName, float]:
    rates: dict[EngineName, list[float]] = {engine: [] for engine in clients}
    for _ in range(_SCAN_ROUNDS):
        for engine, client in clients.items():
            rates[engine].append(envelopes / _scan(client, envelopes))
    return {engine: median(each) for engine, each in rates.items()}


def _scan_table(
    rates: Mapping[EngineName, float], cached_rates: Mapping[EngineName, float]
) -> Table:
    rows = [(engine, count(cached_rates[engine]), count(rate)) for engine, rate in rates.items()]
    header = ("engine", f"{_CACHED_ENVELOPES:,}, all in memory", f"{_ENVELOPES:,}, few in memory")
    goal = Goal(
        "full envelopes of a listing a second, all in memory",
        cached_rates[_ENGINES[0]],
        "at least",
        _MIN_SCAN_RATE,
    )
    return Table("Full envelopes of a listing a second", header, rows, [goal])


def _scan(client: kekd.Client, envelopes: int) -> float:
    """Returns the seconds taken."""
    start = time.perf_counter()
    found = list(client.scan_index_kms())
    seconds = time.perf_counter() - start
    assert len(found) == envelopes
    assert found[-1] == (name_of(envelopes - 1), blob_of(envelopes - 1))
    return seconds
