"""Where the daemon listens and the client looks when nobody said where."""

import ipaddress
import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

DEFAULT_TCP_PORT: Final = 7535


def grpc_target(address: str) -> str:
    """How gRPC spells an address of ours. It takes the path of a socket for part of a URI, where
    `%` and `?` mean something.
    """
    return quote(address, safe="/:") if address.startswith("unix:") else address


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_socket() -> Path:
    """`kekd/kekd.sock` in XDG_RUNTIME_DIR; where there is none, in the user's state folder.

    Both are the user's own. /tmp, which platformdirs falls back to, is everybody's.
    """
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime, "kekd", "kekd.sock")
    # Imported here, as it takes a tenth of the time that gRPC takes, and clients rarely need it.
    import platformdirs  # noqa: PLC0415

    return platformdirs.user_state_path("kekd") / "kekd.sock"
