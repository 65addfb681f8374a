"""Measures GetEnvelope from disk: kekd and an empty handler on both engines, and etcd."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import contender, daemon, empty, etcd, h2load, keystore, load, null_get_server
from bench.contender import Contender
from bench.plots import Bars
from bench.process import Server
from bench.tables import Goal, Table, count, microseconds, paired, ratio
from kekd_schema import encode

_ROUNDS = 9
_HOT = 7
"""The number of the envelope that h2load requests."""
_SHAPES = ((8, 8, 6_000), (1, 1, 2_500))
"""Connections, streams per connection, and requests in a round."""
_WORKERS = os.cpu_count() or 1
"""etcd uses all cores, and kekd one per worker."""
_SPREADS = (1, 2_000, 10_000, 50_000)
"""Numbers of names. The last is more than the daemon's caches keep."""
_SPREAD_ROUNDS = 3
_MIN_SPREAD_REQUESTS = 10_000
_MIN_SHARE = 0.88
_MIN_NATIVE_SHARE = 0.75
_MAX_NATIVE_CPU_RATIO = 1.45
_MIN_ETCD_RATIO = 0.7
_MAX_ETCD_CPU_RATIO = 1.3
_MAX_ETCD_TIME_RATIO = 1.5
_MAX_MICROSECONDS_BEYOND = {2_000: 35, 10_000: 60}
"""The most CPU time beyond the empty handler's, by the number of names."""


def tables(folder: Path) -> Iterator[Table]:
    root = keystore.fill(folder / "keystore", max(_SPREADS))
    with ExitStack() as stack:
        default = stack.enter_context(daemon.on_loopback(root))
        native = stack.enter_context(daemon.on_loopback(root, "native"))
        workers = stack.enter_context(daemon.on_loopback(root, "native", _WORKERS))
        for server in (default, native, workers):
            server.wait_until_idle()
        baseline = stack.enter_context(empty.on_loopback(folder))
        native_baseline = stack.enter_context(empty.on_loopback(folder, "native"))
        record = keystore.path_of(root, _HOT)
        null_get = stack.enter_context(null_get_server.on_loopback(folder, record))
        etcd_server = stack.enter_context(etcd.on_loopback(folder))
        etcd.put(etcd_server.address, keystore.name_of(_HOT), encode(keystore.envelope_of(_HOT)))
        servers = (default, native, workers, null_get, baseline, native_baseline, etcd_server)
        for shape in _SHAPES:
            yield _hot_table(shape, servers, folder)
        yield _spread_table(default, baseline)


def _hot_table(shape: tuple[int, int, int], servers: Sequence[Server], folder: Path) -> Table:
    contenders = _contenders(shape, servers)
    contender.measure(contenders, _ROUNDS, folder)
    default, native, workers, null_get, baseline, native_baseline, *etcd_reads = contenders
    linearizable, serializable = etcd_reads
    goals = (
        _throughput_goals(default, baseline, native, native_baseline, linearizable)
        if shape == _SHAPES[0]
        else [_latency_goal(native, linearizable)]
    )
    connections, streams, _ = shape
    title = f"GetEnvelope of one name, {connections * streams} in flight"
    return Table(
        title,
        contender.HEADER,
        (
            *(each.row() for each in contenders),
            default.ratios(baseline, "kekd ÷ empty handler"),
            null_get.ratios(baseline, "stat(2) and a ready answer ÷ empty handler"),
            native.ratios(native_baseline, "native ÷ empty handler, engine native"),
            native.ratios(linearizable, "native ÷ etcd, linearizable"),
            native.ratios(serializable, "native ÷ etcd, serializable"),
            native_baseline.ratios(
                linearizable, "empty handler, engine native ÷ etcd, linearizable"
            ),
            workers.ratios(linearizable, f"native, {_WORKERS} workers ÷ etcd, linearizable"),
        ),
        goals,
        _plot(title, contenders) if connections > 1 else None,
    )


def _contenders(shape: tuple[int, int, int], servers: Sequence[Server]) -> list[Contender]:
    default, native, workers, null_get, baseline, native_baseline, etcd_server = servers
    name, wrapped_kek = keystore.name_of(_HOT), keystore.envelope_of(_HOT).wrapped_kek
    get = load.request_of(_HOT).SerializeToString()
    linearizable, serializable = etcd.request_of(name), etcd.request_of(name, serializable=True)
    contenders = []
    for title, server, method, request in (
        ("kekd", default, load.METHOD, get),
        ("kekd, engine native", native, load.METHOD, get),
        (f"kekd, engine native, {_WORKERS} workers", workers, load.METHOD, get),
        ("stat(2) and a ready answer", null_get, load.METHOD, get),
        ("empty handler", baseline, load.METHOD, get),
        ("empty handler, engine native", native_baseline, load.METHOD, get),
        ("etcd, linearizable", etcd_server, etcd.METHOD, linearizable),
        ("etcd, serializable", etcd_server, etcd.METHOD, serializable),
    ):
        answer = load.ask(server.address, method, request)
        assert wrapped_kek in answer or server in {baseline, native_baseline}, title
        load_ = h2load.Load(method, request, answer, *shape)
        contenders.append(Contender(title, server, load_))
    return contenders


def _throughput_goals(
    default: Contender,
    baseline: Contender,
    native: Contender,
    native_baseline: Contender,
    linearizable: Contender,
) -> list[Goal]:
    rate, cpu = "requests/s of GetEnvelope", "CPU time of GetEnvelope"
    empty_native, etcd_read = "native ÷ empty handler, native", "native ÷ etcd linearizable"
    return [
        _rate_goal(f"{rate} ÷ empty handler", default, baseline, _MIN_SHARE),
        _rate_goal(f"{rate}, {empty_native}", native, native_baseline, _MIN_NATIVE_SHARE),
        _cpu_goal(f"{cpu}, {empty_native}", native, native_baseline, _MAX_NATIVE_CPU_RATIO),
        _rate_goal(f"{rate}, {etcd_read}", native, linearizable, _MIN_ETCD_RATIO),
        _cpu_goal(f"{cpu}, {etcd_read}", native, linearizable, _MAX_ETCD_CPU_RATIO),
    ]


def _rate_goal(what: str, own: Contender, other: Contender, limit: float) -> Goal:
    return Goal(f"{what}, 64 in flight", paired(own.rates, other.rates), "at least", limit)


def _cpu_goal(what: str, own: Contender, other: Contender, limit: float) -> Goal:
    return Goal(f"{what}, 64 in flight", paired(own.cpu, other.cpu), "at most", limit)


def _latency_goal(native: Contender, linearizable: Contender) -> Goal:
    what = "mean time of GetEnvelope, native ÷ etcd linearizable, 1 in flight"
    return Goal(what, paired(native.means, linearizable.means), "at most", _MAX_ETCD_TIME_RATIO)


def _plot(title: str, contenders: Sequence[Contender]) -> Bars:
    panels = {
        "requests a second": [median(each.rates) for each in contenders],
        "server CPU a request, µs": [median(each.cpu) * 1e6 for each in contenders],
    }
    return Bars("throughput.svg", title, [each.name for each in contenders], panels)


def _spread_table(server: Server, empty_server: Server) -> Table:
    rows = []
    goals = []
    for names in _SPREADS:
        requests = max(names, _MIN_SPREAD_REQUESTS)
        own, baseline = [], []
        for _ in range(_SPREAD_ROUNDS):
            own.append(load.cpu_per_request(server, names, requests))
            baseline.append(load.cpu_per_request(empty_server, names, requests))
        beyond = median(mine - base for mine, base in zip(own, baseline, strict=True))
        figures = (median(own), median(baseline), beyond)
        rows.append((count(names), *map(microseconds, figures), ratio(paired(baseline, own))))
        if limit := _MAX_MICROSECONDS_BEYOND.get(names):
            what = f"CPU of a get beyond the empty handler, {names:,} names in turn, µs"
            goals.append(Goal(what, beyond * 1e6, "at most", limit))
    header = ("names", "kekd", "empty handler", "beyond", "empty handler ÷ kekd")
    return Table("Server CPU a GetEnvelope, µs, names asked for in turn", header, rows, goals)
