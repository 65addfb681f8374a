"""No memory of the daemon reaches a core file or another process."""

import subprocess
import sys
from pathlib import Path

from tests.fixtures.daemon import StartDaemon
from tests.fixtures.workers import StartWorkers, Workers

DUMPABLE = """
import ctypes, resource
from kekd_server.process.hardening import disable_core_dumps
get_dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
before = get_dumpable()
disable_core_dumps()
open("/proc/self/maps").close()
print(before, get_dumpable(), resource.getrlimit(resource.RLIMIT_CORE))
"""


def core_limit(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (limit,) = (line.split() for line in lines if line.startswith("Max core file size"))
    return limit[4:6]


def test_undumpable_process_can_read_its_own_state() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DUMPABLE], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 0 (0, 0)\n"


def test_daemon_writes_no_core_file(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory", forked=False)
    assert core_limit(daemon.process.pid) == ["0", "0"]


def test_workers_and_their_supervisor_write_no_core_file(start_workers: StartWorkers) -> None:
    workers: Workers = start_workers()
    for pid in (workers.process.pid, *workers.pids.values()):
        assert core_limit(pid) == ["0", "0"]
