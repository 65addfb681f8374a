"""Runs pytest while busy processes take most of the processors: `python -m tests.stress [ARG...]`.

The arguments are pytest's. KEKD_STRESS_LOAD is the number of busy processes for each processor, 10
by default.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

_PYTEST: Final = Path(sys.executable).with_name("pytest")
_OPTIONS: Final = ("--numprocesses=3", "--dist=worksteal", "--timeout=7200", "--verbose")


def spin() -> None:
    while True:
        pass


def main(*arguments: str) -> int:
    load = int(os.environ.get("KEKD_STRESS_LOAD", "10"))
    for _ in range(load * len(os.sched_getaffinity(0))):
        multiprocessing.Process(target=spin, daemon=True).start()
    return subprocess.run([_PYTEST, *_OPTIONS, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
