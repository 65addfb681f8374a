"""What a service manager is told of the daemon's life, by systemd's protocol
(https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).

It needs no more than a datagram a message. Nothing is told where nobody asked: NOTIFY_SOCKET says
where to.
"""

import logging
import os
import socket
import time
from typing import Final

_VARIABLE: Final = "NOTIFY_SOCKET"
_PATIENCE_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


def ready() -> None:
    """It serves: for the first time, or with what it was told to read anew."""
    _tell("READY=1", "STATUS=serving")


def reloading() -> None:
    """It heard SIGHUP. `ready` ends it. The time is for Type=notify-reload, which takes no other
    answer than one from after its signal.
    """
    _tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")


def stopping() -> None:
    _tell("STOPPING=1", "STATUS=draining")


def unnoticed() -> dict[str, str]:
    """The environment for a process that isn't the service, and so has nothing to tell."""
    return {name: value for name, value in os.environ.items() if name != _VARIABLE}


def _tell(*lines: str) -> None:
    where = os.environ.get(_VARIABLE)
    if not where:
        return
    if where.startswith("@"):  # how an abstract socket is written
        where = f"\0{where[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(_PATIENCE_SECONDS)
            manager.sendto("\n".join(lines).encode(), where)
    except OSError as error:
        _log.warning("the service manager can't be told %s: %s", lines[0], error)
