"""Parses addresses, and finds the default socket of a user."""

import ipaddress
import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

DEFAULT_TCP_PORT: Final = 7535

_UNEXPANDED: Final = "${"
_NOT_EXPANDED: Final = "${...} is not expanded here; write the value"


def grpc_target(address: str) -> str:
    """Returns an address in gRPC's spelling, which is a URI and so percent-encodes the path."""
    return quote(address, safe="/:") if address.startswith("unix:") else address


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can connect to the host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_expanded(text: str) -> str:
    """Returns the text. Raises ValueError if it has a `${...}`, which kekd doesn't expand."""
    if _UNEXPANDED in text:
        raise ValueError(f"'{text}': {_NOT_EXPANDED}")
    return text


def host_of(address: str) -> str:
    """Returns the host of `HOST:PORT` or `[IPV6]:PORT`."""
    return address.rpartition(":")[0].strip("[]")


def socket_path(address: str) -> Path:
    """Returns the absolute path of `unix:PATH` or `unix:///PATH`, with `~` expanded.

    Raises ValueError.
    """
    path = address.removeprefix("unix:")
    if path.startswith("//") and not path.startswith("///") and path != "//":
        # In a URI, a host follows the slashes. Some programs read a relative path, others fail.
        raise ValueError(
            f"invalid address '{address}': a Unix socket has no host; write unix:{path[1:]} or"
            f" unix://{path[1:]}"
        )
    path = path.removeprefix("//")
    if not path:
        raise ValueError("invalid address 'unix:': no path; write unix:PATH")
    if "," in path or not path.isprintable():
        raise ValueError(
            f"invalid path {path!r}: gRPC cannot connect to a path with a comma or control"
            " character; use another path"
        )
    require_expanded(address)
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, FileNotFoundError):  # no such user, or no current folder
        raise ValueError(
            f"cannot resolve '{address}': it has no absolute form; write an absolute path"
        ) from None


def default_socket() -> Path:
    """Returns `kekd/kekd.sock` in XDG_RUNTIME_DIR, or in the user's state folder if that isn't set.

    Both folders belong to the user. platformdirs itself would fall back to /tmp, which is shared.
    Raises ValueError for a user who has neither.
    """
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime, "kekd", "kekd.sock")
    return state_folder() / "kekd.sock"


def state_folder() -> Path:
    """Returns the default folder for kekd's files. Raises ValueError if the user has no home."""
    # Imported here, because it takes a tenth of gRPC's import time, and clients rarely need it.
    import platformdirs  # noqa: PLC0415

    with suppress(RuntimeError):
        folder = platformdirs.user_state_path("kekd")
        if folder.parts[0] != "~":  # older versions of platformdirs raise no error
            return folder
    raise ValueError(
        f"{_user()} has no home folder: HOME is not set and passwd has no entry; set HOME, or give"
        " each address and path"
    )


def _user() -> str:
    return f"user {os.getuid()}" if hasattr(os, "getuid") else "the user"
