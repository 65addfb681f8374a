"""Restarts a daemon on a busy machine, and counts the gets that fail.

python -m bench.restarts [--restarts 50] [--load 10] [--engine native] [--take-over]

Clients get envelopes continuously, with their default timeout and retries. Meanwhile the daemon is
repeatedly stopped by SIGTERM and started again, or, with --take-over, replaced by a new one. Each
core runs `--load` busy processes, which slow down a start about that many times. Exits with 1 if a
get failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import kekd
from bench import keystore
from bench.keystore import name_of
from bench.tables import Goal, Table, count, goal_table, milliseconds
from kekd_server.listeners.engine import EngineName

_ENVELOPES = 100
_GETTERS = 4
_RESTART_INTERVAL = 1.0
"""Between the first gets from a daemon and its stop."""
_POLL_INTERVAL = 0.05
_SPIN = "while True: pass"


@dataclass
class Gets:
    """Gets of all clients, and their results."""

    done: Counter[int] = field(default_factory=Counter)
    """Number of gets, by client."""
    slowest: float = 0.0
    failed: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, getter: int, address: str) -> None:
        with kekd.Client(address) as client:
            number = 0
            while not self.stopped.is_set():
                number += 1
                start = time.perf_counter()
                try:
                    client.get_index_kms(None, name_of(number % _ENVELOPES))
                except kekd.EnvelopeError as error:
                    self._record(getter, start, f"{type(error).__name__}: {error}")
                else:
                    self._record(getter, start)

    def wait_for_each(self) -> None:
        """Waits until every client has got an envelope from the current daemon."""
        before = self.done.copy()
        while any(self.done[getter] < before[getter] + 2 for getter in range(_GETTERS)):
            time.sleep(_POLL_INTERVAL)

    def _record(self, getter: int, start: float, error: str = "") -> None:
        with self.lock:
            self.done[getter] += 1
            self.slowest = max(self.slowest, time.perf_counter() - start)
            if error:
                self.failed.append(error)


class Daemon:
    def __init__(self, folder: Path, engine: EngineName, *, take_over: bool) -> None:
        self.address = f"unix:{folder}/kekd.sock"
        self._log = folder / "log"
        self._command = [
            *(str(Path(sys.executable).with_name("kekd")), "--listen", self.address),
            *("--disk", str(keystore.fill(folder / "keystore", _ENVELOPES)), "--engine", engine),
            *(["--take-over"] if take_over else []),
        ]
        self._take_over = take_over
        self._start()
        self._wait()

    def restart(self) -> float:
        """Restarts the daemon and returns the seconds taken."""
        start, previous = time.perf_counter(), self._process
        if not self._take_over:
            self.stop()
        self._start()
        previous.wait(timeout=120)
        self._wait()
        return time.perf_counter() - start

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def _wait(self) -> None:
        with kekd.Client(self.address) as client:
            client.wait(120)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(processes):
            spinning = subprocess.Popen([sys.executable, "-c", _SPIN])
            stack.callback(spinning.wait)
            stack.callback(spinning.kill)
        yield


def measure(
    folder: Path, *, restarts: int, load: int, engine: EngineName, take_over: bool
) -> Table:
    daemon, gets = Daemon(folder, engine, take_over=take_over), Gets()
    threads = [
        threading.Thread(target=gets.run, args=[number, daemon.address])
        for number in range(_GETTERS)
    ]
    seconds = []
    with _busy(load * (os.cpu_count() or 1)):
        for thread in threads:
            thread.start()
        try:
            for _ in range(restarts):
                gets.wait_for_each()
                time.sleep(_RESTART_INTERVAL)
                seconds.append(daemon.restart())
        finally:
            gets.stopped.set()
            for thread in threads:
                thread.join()
    daemon.stop()
    for text in gets.failed[:5]:
        print(text, file=sys.stderr)
    rows = [
        ("restarts", count(restarts)),
        ("a restart, median ms", milliseconds(median(seconds))),
        ("a restart at most, ms", milliseconds(max(seconds))),
        ("gets", count(gets.done.total())),
        ("slowest get, ms", milliseconds(gets.slowest)),
        ("failed gets", count(len(gets.failed))),
    ]
    goal = Goal("failed gets", len(gets.failed), "at most", 0)
    return Table(f"Restarts, {load} busy processes a core", ("", ""), rows, [goal])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.restarts", description=__doc__)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--load", type=int, default=10)
    parser.add_argument("--engine", choices=("grpcio", "native"), default="grpcio")
    parser.add_argument("--take-over", action="store_true")
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="kekd-bench-") as folder:
        table = measure(Path(folder), **options)
    print(table)
    print(goal_table(table.goals))
    sys.exit(not all(goal.is_met for goal in table.goals))


if __name__ == "__main__":
    main()
