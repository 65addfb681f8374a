"""Runs a daemon in a process of its own."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0
"""Seconds until a daemon that doesn't stop is killed."""
_MAX_SOCKET_PATH: Final = 107
"""Bytes that Linux allows for the path of a Unix socket."""
_POLL_INTERVAL: Final = 0.05
"""Seconds between two checks whether a daemon that is starting has ended."""


class DaemonStartError(Exception):
    """The daemon can't run here, ended before it served, or didn't serve in time. The message says
    why, or has the daemon's log.
    """


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon that serves until its context ends."""

    address: str
    """For `kekd.Client`."""
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()


@contextmanager
def run_daemon(*flags: str) -> Iterator[RunningDaemon]:
    """Runs a daemon with an empty memory store, on a Unix socket in a folder of its own.

    `flags`: more flags of kekd, such as `--history-versions=0`. The variables of kekd are ignored.
    The daemon is real and ends with its context, or when this process does. Raises
    `DaemonStartError`.
    """
    with tempfile.TemporaryDirectory(prefix="kekd-") as name:
        folder = Path(name)
        _require_short(folder)
        daemon = RunningDaemon(f"unix:{folder / 'kekd.sock'}", folder / "log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            notifications.bind(str(folder / "notify"))
            process = _start(folder, daemon, flags)
            try:
                _wait(process, notifications, daemon)
                yield daemon
            finally:
                _stop(process)


def _require_short(folder: Path) -> None:
    if len(os.fsencode(folder / "kekd.sock")) > _MAX_SOCKET_PATH:
        raise DaemonStartError(
            f"cannot run kekd: the path of a Unix socket in {folder} has more than"
            f" {_MAX_SOCKET_PATH} bytes; set TMPDIR to a shorter path"
        )


def _start(folder: Path, daemon: RunningDaemon, flags: tuple[str, ...]) -> subprocess.Popen[bytes]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("KEKD_", "OTEL_"))
    }
    command = [sys.executable, "-m", "kekd_server.child", "--memory", "--listen", daemon.address]
    with daemon.log_file.open("wb") as log:
        return subprocess.Popen(  # noqa: S603  (the caller's own flags)
            # Nothing of a test needs the daemon to finish calls in flight.
            [*command, "--shutdown-grace=0", *flags],
            stdin=subprocess.PIPE,  # the daemon ends when it closes
            stdout=log,
            stderr=log,
            env=environment | {"NOTIFY_SOCKET": str(folder / "notify")},
        )


def _wait(
    process: subprocess.Popen[bytes], notifications: socket.socket, daemon: RunningDaemon
) -> None:
    """Returns as soon as the daemon has sent what it would send to systemd."""
    notifications.settimeout(_POLL_INTERVAL)
    end = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        try:
            if b"READY=1" in notifications.recv(4096):
                return
        except TimeoutError:
            continue
    reason = daemon.log.strip().removeprefix("kekd: ")
    raise DaemonStartError(f"kekd doesn't serve: {reason or 'it timed out'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
