"""What GetEnvelope from disk costs beyond gRPC itself: kekd and an empty handler."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import daemon, empty, h2load, keystore, load
from bench.process import Server
from bench.tables import Goal, Table, count, microseconds, paired, ratio

_ROUNDS = 9
_HOT = 7
"""The number of the envelope that all of h2load's requests ask for."""
_SHAPES = ((8, 8, 6_000), (1, 1, 2_500))
"""Connections, streams on each, and requests in a round."""
_SPREADS = (1, 2_000, 10_000)
"""Over how many names; the last is more than the daemon keeps decoded."""
_SPREAD_ROUNDS = 3
_SPREAD_REQUESTS = 10_000
_LEAST_SHARE = 0.85


@dataclass(slots=True)
class Side:
    name: str
    server: Server
    load: h2load.Load
    results: list[h2load.Result] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Seconds that the server computed for a request, in each round."""

    def measure(self, folder: Path) -> None:
        before = self.server.cpu_seconds()
        self.results.append(h2load.run(self.server.address, self.load, folder))
        self.cpu.append((self.server.cpu_seconds() - before) / self.load.requests)

    @property
    def rates(self) -> list[float]:
        return [result.rate for result in self.results]

    def row(self) -> tuple[str, ...]:
        return (
            self.name,
            count(median(self.rates)),
            microseconds(median(it.p50 for it in self.results)),
            microseconds(median(it.p99 for it in self.results)),
            microseconds(median(self.cpu)),
        )


def tables(folder: Path) -> Iterator[Table]:
    root = keystore.fill(folder / "keystore", max(_SPREADS))
    with ExitStack() as stack:
        ours = stack.enter_context(daemon.on_loopback(root))
        floor = stack.enter_context(empty.on_loopback(folder))
        found = load.get(ours.address, _HOT).blob
        assert found.wrapped_kek == keystore.envelope_of(_HOT).wrapped_kek
        for shape in _SHAPES:
            yield _hot_table(shape, ours, floor, folder)
        yield _spread_table(ours, floor)


def _hot_table(
    shape: tuple[int, int, int], our_server: Server, empty_server: Server, folder: Path
) -> Table:
    ours = Side("kekd", our_server, _load(shape, our_server))
    floor = Side("empty handler", empty_server, _load(shape, empty_server))
    for round_number in range(_ROUNDS):
        for side in (ours, floor) if round_number % 2 else (floor, ours):
            side.measure(folder)
    share = paired(ours.rates, floor.rates)
    connections, streams, _ = shape
    in_flight = f"{connections * streams} in flight"
    return Table(
        f"GetEnvelope of one name, {in_flight}",
        ("", "requests/s", "p50, µs", "p99, µs", "server CPU a request, µs"),
        (ours.row(), floor.row(), ("kekd ÷ empty handler", *_ratios(ours, floor))),
        [
            Goal(
                f"requests/s of GetEnvelope ÷ empty handler, {in_flight}",
                share,
                "at least",
                _LEAST_SHARE,
            )
        ],
    )


def _load(shape: tuple[int, int, int], server: Server) -> h2load.Load:
    answer = load.get(server.address, _HOT)
    return h2load.Load(load.METHOD, load.request_of(_HOT), answer, *shape)


def _ratios(ours: Side, floor: Side) -> tuple[str, ...]:
    pairs = list(zip(ours.results, floor.results, strict=True))
    return (
        ratio(paired(ours.rates, floor.rates)),
        ratio(median(mine.p50 / other.p50 for mine, other in pairs)),
        ratio(median(mine.p99 / other.p99 for mine, other in pairs)),
        ratio(paired(ours.cpu, floor.cpu)),
    )


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
