"""A server under test, and the results of its rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import h2load
from bench.process import Server
from bench.tables import count, microseconds, paired, ratio

HEADER = ("", "requests/s", "mean, µs", "p50, µs", "p99, µs", "server CPU a request, µs")


@dataclass(slots=True)
class Contender:
    name: str
    server: Server
    load: h2load.Load
    results: list[h2load.Result] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """The server's CPU seconds per request, by round."""

    def measure(self, folder: Path) -> None:
        before = self.server.cpu_seconds()
        self.results.append(h2load.run(self.server.address, self.load, folder))
        self.cpu.append((self.server.cpu_seconds() - before) / self.load.requests)

    @property
    def rates(self) -> list[float]:
        return [result.rate for result in self.results]

    @property
    def means(self) -> list[float]:
        return [result.mean for result in self.results]

    def row(self) -> tuple[str, ...]:
        """Returns the table row for `HEADER`."""
        rate, *times = (median(column) for column in self._columns())
        return (self.name, count(rate), *map(microseconds, times))

    def ratios(self, baseline: "Contender", name: str) -> tuple[str, ...]:
        """Returns the row of this contender's figures divided by the baseline's."""
        pairs = zip(self._columns(), baseline._columns(), strict=True)  # noqa: SLF001  (own class)
        return (name, *(ratio(paired(own, base)) for own, base in pairs))

    def _columns(self) -> Sequence[Sequence[float]]:
        p50, p99 = [one.p50 for one in self.results], [one.p99 for one in self.results]
        return self.rates, self.means, p50, p99, self.cpu


def measure(contenders: Sequence[Contender], rounds: int, folder: Path) -> None:
    """Measures every contender in each round, in alternating order."""
    for number in range(rounds):
        for contender in contenders[:: -1 if number % 2 else 1]:
            contender.measure(folder)
