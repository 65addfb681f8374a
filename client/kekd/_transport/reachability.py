"""Whether somebody listens at an address, for the words of an error."""

import errno
import select
import socket
from typing import Final

from kekd_common.address import host_of, is_loopback

_LISTENS: Final = (0, errno.EISCONN, errno.EAGAIN)
"""EAGAIN is for a Unix socket whose queue is full: as many wait there as may."""


def accepts_connections(address: str) -> bool:
    """Whether the kernel takes a connection there. Doesn't wait, so it is False as well for another
    machine, of which only an answer could tell.
    """
    if address.startswith("unix:"):
        return _connects(socket.AF_UNIX, address.removeprefix("unix:"))
    host, port = host_of(address), address.rpartition(":")[2]
    if not is_loopback(host):
        return False
    host = "127.0.0.1" if host == "localhost" else host
    return _connects(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, int(port)))


def _connects(family: socket.AddressFamily, where: str | tuple[str, int]) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(0)
        try:
            result = probe.connect_ex(where)
        except OSError:  # a path that is too long for a socket
            return False
        if result == errno.EINPROGRESS:
            _, writable, _ = select.select([], [probe], [], 0)
            result = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if writable else result
        return result in _LISTENS
