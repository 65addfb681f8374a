"""What GetEnvelope from disk costs: kekd and an empty handler on either engine, and etcd."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import daemon, empty, etcd, h2load, keystore, load, ready, side
from bench.plots import Bars
from bench.process import Server
from bench.side import Side
from bench.tables import Goal, Table, count, microseconds, paired, ratio
from kekd_schema import encode

_ROUNDS = 9
_HOT = 7
"""The number of the envelope that all of h2load's requests ask for."""
_SHAPES = ((8, 8, 6_000), (1, 1, 2_500))
"""Connections, streams on each, and requests in a round."""
_WORKERS = os.cpu_count() or 1
"""As etcd, too, computes on all cores, and kekd on one for each worker."""
_SPREADS = (1, 2_000, 10_000)
"""Over how many names; the last is more than the daemon keeps decoded."""
_SPREAD_ROUNDS = 3
_SPREAD_REQUESTS = 10_000
_LEAST_SHARE = 0.85
_LEAST_NATIVE_SHARE = 4.0
_LEAST_OF_ETCD = 1.5
_MOST_TIME_OF_ETCD = 1.25


def tables(folder: Path) -> Iterator[Table]:
    root = keystore.fill(folder / "keystore", max(_SPREADS))
    with ExitStack() as stack:
        ours = stack.enter_context(daemon.on_loopback(root))
        native = stack.enter_context(daemon.on_loopback(root, "native"))
        workers = stack.enter_context(daemon.on_loopback(root, "native", _WORKERS))
        floor = stack.enter_context(empty.on_loopback(folder))
        native_floor = stack.enter_context(empty.on_loopback(folder, "native"))
        least = stack.enter_context(ready.on_loopback(folder, keystore.path_of(root, _HOT)))
        theirs = stack.enter_context(etcd.on_loopback(folder))
        etcd.put(theirs.address, keystore.name_of(_HOT), encode(keystore.envelope_of(_HOT)))
        servers = (ours, native, workers, least, floor, native_floor, theirs)
        for shape in _SHAPES:
            yield _hot_table(shape, servers, folder)
        yield _spread_table(ours, floor)


def _hot_table(shape: tuple[int, int, int], servers: Sequence[Server], folder: Path) -> Table:
    sides = _sides(shape, servers)
    side.measure(sides, _ROUNDS, folder)
    ours, native, workers, least, floor, native_floor, linearizable, serializable = sides
    connections, streams, _ = shape
    title = f"GetEnvelope of one name, {connections * streams} in flight"
    return Table(
        title,
        side.HEADER,
        (
            *(it.row() for it in sides),
            ours.ratios(floor, "kekd ÷ empty handler"),
            least.ratios(floor, "stat(2) and a ready answer ÷ empty handler"),
            native.ratios(floor, "native ÷ empty handler"),
            native.ratios(linearizable, "native ÷ etcd, linearizable"),
            native.ratios(serializable, "native ÷ etcd, serializable"),
            native_floor.ratios(linearizable, "empty handler, engine native ÷ etcd, linearizable"),
            workers.ratios(linearizable, f"native, {_WORKERS} workers ÷ etcd, linearizable"),
        ),
        _goals(ours, native, floor, linearizable, f"{connections * streams} in flight"),
        _plot(title, sides) if connections > 1 else None,
    )


def _sides(shape: tuple[int, int, int], servers: Sequence[Server]) -> list[Side]:
    ours, native, workers, least, floor, native_floor, theirs = servers
    name, wrapped_kek = keystore.name_of(_HOT), keystore.envelope_of(_HOT).wrapped_kek
    get = load.request_of(_HOT).SerializeToString()
    linearizable, serializable = etcd.request_of(name), etcd.request_of(name, serializable=True)
    sides = []
    for title, server, method, request in (
        ("kekd", ours, load.METHOD, get),
        ("kekd, engine native", native, load.METHOD, get),
        (f"kekd, engine native, {_WORKERS} workers", workers, load.METHOD, get),
        ("stat(2) and a ready answer", least, load.METHOD, get),
        ("empty handler", floor, load.METHOD, get),
        ("empty handler, engine native", native_floor, load.METHOD, get),
        ("etcd, linearizable", theirs, etcd.METHOD, linearizable),
        ("etcd, serializable", theirs, etcd.METHOD, serializable),
    ):
        answer = load.ask(server.address, method, request)
        assert wrapped_kek in answer or server in {floor, native_floor}, title
        sides.append(Side(title, server, h2load.Load(method, request, answer, *shape)))
    return sides


def _goals(ours: Side, native: Side, floor: Side, etcd_side: Side, how: str) -> list[Goal]:
    what = "requests/s of GetEnvelope"
    share = paired(ours.rates, floor.rates)
    goals = [Goal(f"{what} ÷ empty handler, {how}", share, "at least", _LEAST_SHARE)]
    if native.load.connections > 1:
        native_share = paired(native.rates, floor.rates)
        of_etcd = paired(native.rates, etcd_side.rates)
        what = f"{what}, engine native ÷"
        goals += [
            Goal(f"{what} empty handler, {how}", native_share, "at least", _LEAST_NATIVE_SHARE),
            Goal(f"{what} etcd linearizable, {how}", of_etcd, "at least", _LEAST_OF_ETCD),
        ]
    else:
        time_of_etcd = paired(native.means, etcd_side.means)
        what = f"mean time of GetEnvelope, engine native ÷ etcd linearizable, {how}"
        goals.append(Goal(what, time_of_etcd, "at most", _MOST_TIME_OF_ETCD))
    return goals


def _plot(title: str, sides: Sequence[Side]) -> Bars:
    panels = {
        "requests a second": [median(it.rates) for it in sides],
        "server CPU a request, µs": [median(it.cpu) * 1e6 for it in sides],
    }
    return Bars("throughput.svg", title, [it.name for it in sides], panels)


def _spread_table(our_server: Server, empty_server: Server) -> Table:
    rows = []
    for names in _SPREADS:
        ours, floor = [], []
        for _ in range(_SPREAD_ROUNDS):
            ours.append(load.cpu_per_request(our_server, names, _SPREAD_REQUESTS))
            floor.append(load.cpu_per_request(empty_server, names, _SPREAD_REQUESTS))
        beyond = median(mine - other for mine, other in zip(ours, floor, strict=True))
        figures = (median(ours), median(floor), beyond)
        rows.append((count(names), *map(microseconds, figures), ratio(paired(floor, ours))))
    header = ("names", "kekd", "empty handler", "beyond", "empty handler ÷ kekd")
    return Table("Server CPU a GetEnvelope, µs, names asked for in turn", header, rows)
