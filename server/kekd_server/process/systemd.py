"""Notifies the service manager of the daemon's state, by the protocol of sd_notify(3)
(https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).

Each message is one datagram to the socket that NOTIFY_SOCKET names. Without that variable, nothing
is sent.
"""

import logging
import os
import socket
import time
from typing import Final

_VARIABLE: Final = "NOTIFY_SOCKET"
_WATCHDOG_INTERVAL: Final = "WATCHDOG_USEC"
_WATCHDOG_PID: Final = "WATCHDOG_PID"
_SEND_TIMEOUT: Final = 1.0

_log = logging.getLogger(__name__)


def ready() -> None:
    """Reports that the daemon serves, after its start or after a reload."""
    _notify("READY=1", "STATUS=serving")


def reloading() -> None:
    """Reports the start of a reload, which `ready` ends. Type=notify-reload compares the time with
    that of its signal.
    """
    _notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")


def stopping() -> None:
    _notify("STOPPING=1", "STATUS=draining")


def watchdog_interval() -> float | None:
    """Returns the seconds between two calls of `keep_alive`: half of what the service manager
    allows, as sd_watchdog_enabled(3) recommends. None if it expects no calls from this process.
    """
    if os.environ.get(_WATCHDOG_PID, str(os.getpid())) != str(os.getpid()):
        return None
    limit = os.environ.get(_WATCHDOG_INTERVAL, "")
    return int(limit) / 2e6 if limit.isascii() and limit.isdigit() and int(limit) else None


def keep_alive() -> None:
    """Reports that the event loop runs. Without a report in time, the service manager restarts the
    daemon.
    """
    _notify("WATCHDOG=1")


def environment_without_notify_socket() -> dict[str, str]:
    """Returns the environment for a worker: only the supervisor notifies the service manager."""
    own = {_VARIABLE, _WATCHDOG_INTERVAL, _WATCHDOG_PID}
    return {name: value for name, value in os.environ.items() if name not in own}


def _notify(*lines: str) -> None:
    address = os.environ.get(_VARIABLE)
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(_SEND_TIMEOUT)
            manager.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        _log.warning("cannot send %s to the service manager: %s", lines[0], error)
