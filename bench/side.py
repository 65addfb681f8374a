"""One of the servers that h2load asks in turn, and what each of its rounds measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import h2load
from bench.process import Server
from bench.tables import count, microseconds, paired, ratio

HEADER = ("", "requests/s", "mean, µs", "p50, µs", "p99, µs", "server CPU a request, µs")


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
        return [it.rate for it in self.results]

    @property
    def means(self) -> list[float]:
        return [it.mean for it in self.results]

    def row(self) -> tuple[str, ...]:
        """Under `HEADER`, as is `ratios`."""
        rate, *times = (median(column) for column in self._columns())
        return (self.name, count(rate), *map(microseconds, times))

    def ratios(self, other: "Side", name: str) -> tuple[str, ...]:
        pairs = zip(self._columns(), other._columns(), strict=True)  # noqa: SLF001  (another Side)
        return (name, *(ratio(paired(mine, theirs)) for mine, theirs in pairs))

    def _columns(self) -> Sequence[Sequence[float]]:
        p50, p99 = [it.p50 for it in self.results], [it.p99 for it in self.results]
        return self.rates, self.means, p50, p99, self.cpu


def measure(sides: Sequence[Side], rounds: int, folder: Path) -> None:
    """Each round visits every side, and every other round backwards."""
    for number in range(rounds):
        for side in sides[:: -1 if number % 2 else 1]:
            side.measure(folder)
