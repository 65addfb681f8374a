"""Plots of a table's figures, written beside this file for README.md.

matplotlib is imported only for drawing, after all measurements: its many objects would slow down
each garbage collection of this process.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 8.0, 3.0
"""Inches."""
_STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.titlesize": "medium",
    "font.size": 9,
    "svg.hashsalt": "kekd",  # equal figures give equal files
}


@dataclass(frozen=True, slots=True)
class Plot(ABC):
    file: str
    title: str

    def __str__(self) -> str:
        return f"![{self.title}]({self.file})"

    @abstractmethod
    def draw(self) -> None:
        """Writes the file."""

    @contextmanager
    def _axes(self, count: int = 1) -> Iterator[Sequence["Axes"]]:
        import matplotlib as mpl  # noqa: PLC0415  (the docstring above says why)
        from matplotlib.figure import Figure  # noqa: PLC0415

        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
            figure.suptitle(self.title)
            axes: Any = figure.subplots(1, count, squeeze=False, sharey=True)
            yield axes[0]
            figure.savefig(Path(__file__).with_name(self.file), metadata={"Date": None})


@dataclass(frozen=True, slots=True)
class Curves(Plot):
    """A line plot with two logarithmic axes."""

    x_label: str
    y_label: str
    curves: Mapping[str, Mapping[int, float]]

    def draw(self) -> None:
        with self._axes() as (axes,):
            for name, points in self.curves.items():
                axes.plot(list(points.keys()), list(points.values()), marker="o", label=name)
            axes.set(xscale="log", yscale="log", xlabel=self.x_label, ylabel=self.y_label)
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)


@dataclass(frozen=True, slots=True)
class Bars(Plot):
    """A panel for each quantity, with a bar for each name, the first at the top."""

    names: Sequence[str]
    panels: Mapping[str, Sequence[float]]

    def draw(self) -> None:
        with self._axes(len(self.panels)) as panels:
            for axes, (label, values) in zip(panels, self.panels.items(), strict=True):
                colours = [f"C{number}" for number in range(len(values))]
                bars = axes.barh(list(self.names), values, color=colours)
                axes.bar_label(bars, fmt="{:,.0f}", padding=3)
                axes.set_xlabel(label)
                axes.margins(x=0.2)
            panels[0].invert_yaxis()
