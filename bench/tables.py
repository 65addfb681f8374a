"""Markdown tables, and goals for their figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.plots import Plot


@dataclass(frozen=True, slots=True)
class Goal:
    """A measured figure, usually a ratio, and its limit."""

    what: str
    value: float
    bound: Literal["at least", "at most"]
    limit: float

    @property
    def is_met(self) -> bool:
        return self.value <= self.limit if self.bound == "at most" else self.value >= self.limit


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    goals: Sequence[Goal] = ()
    """Goals for this table's figures."""
    plot: Plot | None = None

    def __str__(self) -> str:
        plot = [f"{self.plot}", ""] if self.plot else []
        return "\n".join([f"#### {self.title}", "", *self._lines(), "", *plot])

    def _lines(self) -> Iterator[str]:
        """Left-aligns the first column, which has text; the others have figures."""
        yield _line(self.header)
        yield _line([":--", *["--:"] * (len(self.header) - 1)])
        yield from map(_line, self.rows)


def goal_table(goals: Sequence[Goal]) -> Table:
    rows = [
        (
            goal.what,
            ratio(goal.value),
            f"{goal.bound} {goal.limit:,g}",
            "yes" if goal.is_met else "no",
        )
        for goal in goals
    ]
    return Table("Goals", ("", "measured", "goal", "met"), rows)


def milliseconds(seconds: float) -> str:
    """Formats with three significant digits, for times from 0.05 to 2,000 ms."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def paired(own: Sequence[float], baseline: Sequence[float]) -> float:
    """Returns the median ratio of the rounds. Both figures of a round saw the same machine."""
    return median(mine / base for mine, base in zip(own, baseline, strict=True))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
