"""Markdown tables, and the goals that figures are held against."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.plots import Plot


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that was measured, most often a ratio, and what it must be."""

    what: str
    value: float
    bound: Literal["at least", "at most"]
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.bound == "at most" else self.value >= self.limit


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    goals: Sequence[Goal] = ()
    """Those that this table's figures decide."""
    plot: Plot | None = None
    """Of this table's figures."""

    def __str__(self) -> str:
        picture = [f"{self.plot}", ""] if self.plot else []
        return "\n".join([f"#### {self.title}", "", *self._lines(), "", *picture])

    def _lines(self) -> Iterator[str]:
        """The first column holds words and is left-aligned, the others hold figures."""
        yield _line(self.header)
        yield _line([":--", *["--:"] * (len(self.header) - 1)])
        yield from map(_line, self.rows)


def of_goals(goals: Sequence[Goal]) -> Table:
    rows = [
        (it.what, ratio(it.value), f"{it.bound} {it.limit:,g}", "yes" if it.met else "no")
        for it in goals
    ]
    return Table("Goals", ("", "measured", "goal", "met"), rows)


def milliseconds(seconds: float) -> str:
    """Three significant digits, as these times reach from 0.05 to 2,000."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of ours divided by theirs: both of a round saw the same machine."""
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
