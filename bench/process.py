"""Runs a server in another process, and reads its CPU time and memory from the kernel."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The folder in which `python -m bench.<part>` works."""
_CPUCLOCK_SCHED = 2
"""From linux/posix-timers.h."""
_START_TIMEOUT = 30.0
_POLL_INTERVAL = 0.001
_IDLE_TIMEOUT = 3600.0
"""Longer than a daemon needs to compare the history of a million envelopes."""
_IDLE_SECONDS = 1.0
_MAX_IDLE_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Server:
    address: str
    """`unix:PATH` or `127.0.0.1:PORT`."""
    pid: int

    def cpu_seconds(self) -> float:
        """Returns the user and system time of the server and its workers since they started."""
        children = Path(f"/proc/{self.pid}/task").glob("*/children")
        workers = [int(pid) for file in children for pid in file.read_text().split()]
        return sum(map(_cpu_seconds, (self.pid, *workers)))

    def wait_until_idle(self) -> None:
        """Returns when kekd takes hardly any CPU time. After a start, it slowly compares the
        history of each envelope with its record.

        Raises TimeoutError for a server that never gets idle.
        """
        used = self.cpu_seconds()
        end = time.monotonic() + _IDLE_TIMEOUT
        while time.monotonic() < end:
            time.sleep(_IDLE_SECONDS)
            before, used = used, self.cpu_seconds()
            if used - before < _IDLE_SECONDS * _MAX_IDLE_SHARE:
                return
        raise TimeoutError(
            f"server {self.pid} at {self.address} not idle after {_IDLE_TIMEOUT:g} s: it used"
            f" {used - before:.2f} s of CPU time in the last {_IDLE_SECONDS:g} s; end its other"
            f" callers, or find out what it does (py-spy top --pid {self.pid})"
        )

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


@contextmanager
def running(command: Sequence[str], address: str, log: Path) -> Iterator[Server]:
    """Runs `command`, yields its server when it accepts connections, and stops it at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=_clean_environment(),
        )
    try:
        _wait(process, address, log)
        yield Server(address, process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)
    finally:
        process.kill()
        process.wait()


def python(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module of this package in another interpreter."""
    return [sys.executable, "-m", module, *arguments]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _cpu_seconds(pid: int) -> float:
    """Reads the clock whose id clock_getcpuclockid(3) returns, which Python lacks. /proc counts in
    ticks of 10 ms, which is a tenth of what the server takes in a round.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    """Polls with connect(2), because gRPC's reconnect delays would add to the measured time."""
    end = time.monotonic() + _START_TIMEOUT
    while not _accepts(address):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args!r} didn't start: {log.read_text()}")
        time.sleep(_POLL_INTERVAL)


def _accepts(address: str) -> bool:
    try:
        if address.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


def _clean_environment() -> dict[str, str]:
    """Returns the environment without kekd's settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith("KEKD_")}
