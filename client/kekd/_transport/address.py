"""The addresses of daemons."""

import re
from typing import Final

from kekd_common.address import default_socket, host_of, is_loopback, socket_path

ADDRESS_VARIABLE: Final = "KEKD_ADDRESS"

_HOST_PORT: Final = re.compile(r"(\[[\da-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})", re.ASCII)
_MAX_PORT: Final = 2**16 - 1


def resolve(address: str | None) -> str:
    """Returns `address`, or else the per-user default socket.

    Accepts `unix:PATH`, `unix:///PATH`, `HOST:PORT` and `[IPV6]:PORT`, and expands `~` in a path.
    Raises ValueError for anything else.
    """
    address = address or f"unix:{default_socket()}"
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        if path and "," not in path and path.isprintable():
            return f"unix:{socket_path(address)}"
    elif (parts := _HOST_PORT.fullmatch(address)) and 0 < int(parts["port"]) <= _MAX_PORT:
        return address
    raise ValueError(
        f"invalid address '{address}'; use unix:PATH, unix:///PATH, HOST:PORT or [IPV6]:PORT, with"
        f" no comma in the path and a port from 1 to {_MAX_PORT}"
    )


def is_local(address: str) -> bool:
    """Whether a call to the address stays on this machine."""
    return address.startswith("unix:") or is_loopback(host_of(address))
