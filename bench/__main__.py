"""Prints every table, or those of the parts named: python -m bench [scale throughput ...]"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import (
    bulk,
    cached,
    creates,
    h2load,
    kek,
    machine,
    million,
    rotation,
    scale,
    startup,
    throughput,
)
from bench.plots import Plot
from bench.tables import Goal, Table, of_goals

Part = Callable[[Path], Iterator[Table]]
"""Measures in an empty folder."""

_PARTS: Mapping[str, Part] = {
    "scale": scale.tables,
    "throughput": throughput.tables,
    "bulk": bulk.tables,
    "cached": cached.tables,
    "creates": creates.tables,
    "startup": startup.tables,
    "kek": kek.tables,
    "rotation": rotation.tables,
    "million": million.tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(_PARTS)}")
    asked = parser.parse_args().parts
    if unknown := set(asked) - set(_PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if "throughput" in (asked or _PARTS):
        h2load.check_installed()
    # As an exception, so that what was started is ended and what was written is removed.
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="kekd-bench-") as folder:
        _run(asked or list(_PARTS), Path(folder))


def _run(names: list[str], folder: Path) -> None:
    print(machine.table(folder), flush=True)
    goals: list[Goal] = []
    plots: list[Plot] = []
    for name in names:
        start = time.monotonic()
        own_folder = folder / name
        own_folder.mkdir()
        for table in _PARTS[name](own_folder):
            print(table, flush=True)
            goals += table.goals
            plots += [table.plot] if table.plot else []
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    if goals:
        print(of_goals(goals))
    for plot in plots:
        plot.draw()


def _end(*_: Any) -> None:
    sys.exit(1)


if __name__ == "__main__":
    main()
