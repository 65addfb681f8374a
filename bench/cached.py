"""Measures a get of `Client(cache=True)`, and how soon it sees another client's change."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles

import kekd
from bench import daemon, keystore
from bench.keystore import blob_of, name_of
from bench.tables import Goal, Table, count, milliseconds, paired, ratio

Get = Callable[[str], kekd.KMSBlob]

_INDEXES = 100
_ROUNDS = 9
_CACHED, _RPC = "cached get", "get without a cache"
_COPY, _LOOK_UP = "look-up in a dict and copy.copy", "look-up in a dict, not copied"
_CALLS = {_CACHED: 50_000, _COPY: 50_000, _LOOK_UP: 50_000, _RPC: 500}
"""Calls in a round."""
_MAX_GET_TO_COPY = 3.0
_MIN_SPEEDUP = 100.0
_CHANGES = 1_000
_POLL_INTERVAL = 0.0002
"""Pause between two reads of a cache. Without it, this thread would keep the cache's own threads
from running."""
_TIMEOUT = 5.0
_MAX_MILLISECONDS = 50.0


def tables(folder: Path) -> Iterator[Table]:
    root = keystore.fill(folder / "keystore", _INDEXES)
    with (
        daemon.on_socket(root) as server,
        kekd.Client(server.address) as plain,
        kekd.Client(server.address, cache=True) as cached,
    ):
        yield _get_table(plain, cached)
        yield _change_table(plain, cached)


def _get_table(plain: kekd.Client, cached: kekd.Client) -> Table:
    names = [name_of(number) for number in range(_INDEXES)]
    blobs = {name: plain.get_index_kms(None, name) for name in names}
    gets: Mapping[str, Get] = {
        _CACHED: lambda name: cached.get_index_kms(None, name),
        _COPY: lambda name: copy.copy(blobs[name]),
        _LOOK_UP: lambda name: blobs[name],
        _RPC: lambda name: plain.get_index_kms(None, name),
    }
    _warm(cached, names)
    seconds: dict[str, list[float]] = {label: [] for label in gets}
    for round_number in range(_ROUNDS):
        for label in sorted(gets, reverse=bool(round_number % 2)):
            seconds[label].append(_seconds_per_call(gets[label], names, _CALLS[label]))
    of_copy = {label: paired(times, seconds[_COPY]) for label, times in seconds.items()}
    rows = [
        (label, count(median(times) * 1e9), ratio(of_copy[label]))
        for label, times in seconds.items()
    ]
    speedup = paired(seconds[_RPC], seconds[_CACHED])
    goals = [
        Goal(f"{_CACHED} ÷ {_COPY}", of_copy[_CACHED], "at most", _MAX_GET_TO_COPY),
        Goal(f"{_RPC} ÷ {_CACHED}", speedup, "at least", _MIN_SPEEDUP),
    ]
    header = ("", "ns", "÷ look-up and copy")
    return Table(f"A get of {_INDEXES} envelopes in turn", header, rows, goals)


def _warm(cached: kekd.Client, names: Sequence[str]) -> None:
    """Reads until all names are cached: the watch starts with the first get."""
    caches = cached._caches  # noqa: SLF001  (to wait until all is cached)
    assert caches is not None
    end = time.monotonic() + _TIMEOUT
    while not all(caches.get(None, name) for name in names):
        assert time.monotonic() < end, "nothing is cached"
        for name in names:
            cached.get_index_kms(None, name)


def _seconds_per_call(get: Get, names: Sequence[str], calls: int) -> float:
    sequence = list(islice(cycle(names), calls))
    start = time.perf_counter()
    for name in sequence:
        get(name)
    return (time.perf_counter() - start) / calls


def _change_table(plain: kekd.Client, cached: kekd.Client) -> Table:
    _warm(cached, [name_of(number) for number in range(_INDEXES)])
    seconds = [_seconds_to_show(plain, cached, number) for number in range(_CHANGES)]
    p99 = quantiles(seconds, n=100)[-1]
    rows = [("p50", milliseconds(median(seconds)))]
    rows += [("p99", milliseconds(p99)), ("longest", milliseconds(max(seconds)))]
    what = "change to another client's cache, p99, ms"
    goal = Goal(what, p99 * 1e3, "at most", _MAX_MILLISECONDS)
    title = f"From a push's answer until another client's cache shows it, {_CHANGES:,} pushes"
    return Table(title, ("", "ms"), rows, [goal])


def _seconds_to_show(plain: kekd.Client, cached: kekd.Client, number: int) -> float:
    name, blob = name_of(number % _INDEXES), blob_of(number % _INDEXES)
    _warm(cached, [name])
    blob.version += 1 + number
    plain.push_index_kms(None, name, blob)
    start = time.perf_counter()
    while cached.get_index_kms(None, name) != blob:
        assert time.perf_counter() - start < _TIMEOUT, f"{name} was not invalidated"
        time.sleep(_POLL_INTERVAL)
    return time.perf_counter() - start
