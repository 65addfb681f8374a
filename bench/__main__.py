"""Prints all tables, or those of the given parts: python -m bench [scale throughput ...]"""

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
    bulk_writes,
    cached,
    client,
    creates,
    fanout,
    h2load,
    history,
    kek,
    machine,
    million,
    quick,
    rotation,
    s3,
    scale,
    startup,
    throughput,
)
from bench.plots import Plot
from bench.tables import Goal, Table, goal_table

Part = Callable[[Path], Iterator[Table]]
"""Measures in an empty folder and yields its tables."""

_PARTS: Mapping[str, Part] = {
    "scale": scale.tables,
    "throughput": throughput.tables,
    "bulk": bulk.tables,
    "cached": cached.tables,
    "client": client.tables,
    "creates": creates.tables,
    "bulk-writes": bulk_writes.tables,
    "history": history.tables,
    "fanout": fanout.tables,
    "startup": startup.tables,
    "kek": kek.tables,
    "rotation": rotation.tables,
    "s3": s3.tables,
    "million": million.tables,
}
_NAMED: Mapping[str, Part] = {**_PARTS, "quick": quick.tables}
"""`quick` repeats what other parts measure, and runs only if it is named."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"part to run: {', '.join(_NAMED)} (default: all but quick)",
    )
    parts = parser.parse_args().parts or list(_PARTS)
    if unknown := set(parts) - set(_NAMED):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    if {"throughput", "quick"} & set(parts):
        h2load.check_installed()
    # Raise an exception, so that servers are stopped and files removed.
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="kekd-bench-") as folder:
        _run(parts, Path(folder))


def _run(names: list[str], folder: Path) -> None:
    print(machine.table(folder), flush=True)
    goals: list[Goal] = []
    plots: list[Plot] = []
    for name in names:
        start = time.monotonic()
        own_folder = folder / name
        own_folder.mkdir()
        for table in _NAMED[name](own_folder):
            print(table, flush=True)
            goals += table.goals
            plots += [table.plot] if table.plot else []
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    if goals:
        print(goal_table(goals))
    for plot in plots:
        plot.draw()


def _end(*_: Any) -> None:
    sys.exit(1)


if __name__ == "__main__":
    main()
