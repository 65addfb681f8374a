"""Checks whether a process listens at a local address, to explain a timeout."""

from __future__ import annotations

import errno
import select
import socket
from typing import Final

from kekd_common.address import host_of, is_loopback

_LISTENING: Final = (0, errno.EISCONN, errno.EAGAIN)
"""EAGAIN: a Unix socket whose queue of pending connections is full."""


def accepts_connections(address: str) -> bool:
    """Whether the kernel accepts a connection to a local address.

    Doesn't wait. Returns False for another machine, because only a response would show it.
    """
    if address.startswith("unix:"):
        if not hasattr(socket, "AF_UNIX"):  # Python on Windows can't ask
            return False
        return _connects(socket.AF_UNIX, address.removeprefix("unix:"))
    host, port = host_of(address), address.rpartition(":")[2]
    if not is_loopback(host):
        return False
    host = "127.0.0.1" if host == "localhost" else host
    return _connects(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, int(port)))


def _connects(family: socket.AddressFamily, target: str | tuple[str, int]) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(0)
        try:
            result = probe.connect_ex(target)
        except OSError:  # the path is too long for a socket
            return False
        if result == errno.EINPROGRESS:
            _, writable, _ = select.select([], [probe], [], 0)
            result = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if writable else result
        return result in _LISTENING
