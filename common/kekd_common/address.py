"""Where the daemon listens and the client looks when nobody said where."""

import ipaddress
import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

DEFAULT_TCP_PORT: Final = 7535

_UNEXPANDED: Final = "${"
_NOT_EXPANDED: Final = "${...} is not expanded here: write the value itself"


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


def require_expanded(text: str) -> str:
    """Raises ValueError for a text with a `${...}`, which kekd doesn't expand."""
    if _UNEXPANDED in text:
        raise ValueError(f"'{text}': {_NOT_EXPANDED}")
    return text


def host_of(address: str) -> str:
    """The host of `HOST:PORT` or `[IPV6]:PORT`."""
    return address.rpartition(":")[0].strip("[]")


def socket_path(address: str) -> Path:
    """The absolute path of `unix:PATH` or `unix:///PATH`, where `~` is a home folder.

    Raises ValueError, saying what to write.
    """
    path = address.removeprefix("unix:")
    if path.startswith("//") and not path.startswith("///") and path != "//":
        # A URI has a host there. To some programs this is a relative path, to others none at all.
        raise ValueError(
            f"'{address}' has a host, which a Unix socket has not: write unix:{path[1:]} or"
            f" unix://{path[1:]}"
        )
    path = path.removeprefix("//")
    if not path:
        raise ValueError("'unix:' names no path: write unix:PATH")
    if "," in path or not path.isprintable():
        raise ValueError(f"{path!r} has a comma or a control character: gRPC can't connect to it")
    require_expanded(address)
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, FileNotFoundError):  # no such user, or no folder to start from
        raise ValueError(f"'{address}' leads nowhere: write its path from / on") from None


def default_socket() -> Path:
    """`kekd/kekd.sock` in XDG_RUNTIME_DIR; where there is none, in the user's state folder.

    Both are the user's own. /tmp, which platformdirs falls back to, is everybody's. Raises
    ValueError for a user who has neither.
    """
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime, "kekd", "kekd.sock")
    return state_folder() / "kekd.sock"


def state_folder() -> Path:
    """Where kekd keeps what a user has not given another place to. Raises ValueError if there is no
    such folder.
    """
    # Imported here, as it takes a tenth of the time that gRPC takes, and clients rarely need it.
    import platformdirs  # noqa: PLC0415

    try:
        return platformdirs.user_state_path("kekd")
    except RuntimeError:
        raise ValueError(
            f"user {os.getuid()} has no home folder, as HOME is not set and no passwd entry names"
            " one: set HOME, or give each address and path"
        ) from None
