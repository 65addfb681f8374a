"""Types of single settings."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator

from kekd_common.address import require_expanded
from kekd_common.duration import parse_duration
from kekd_server.listeners.listener import parse

_URL: Final = re.compile("https?://[^/?#]+(/[^?#]*)?")


def split(value: object) -> object:
    """A list is comma-separated in a variable."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


def address_or_mapping(value: object) -> object:
    """Accepts an address instead of a mapping."""
    if isinstance(value, str):
        return {"address": value}
    if isinstance(value, (dict, BaseModel)):
        return value
    raise ValueError("neither an address nor a mapping; write one such as 127.0.0.1:7535")


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _require_distinct(values: list[Any]) -> list[Any]:
    names = [str(value) for value in values]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"'{repeated[0]}' is given twice; remove one")
    return values


def _address(value: str) -> str:
    return str(parse(value))


def _port(value: str) -> str:
    if not value.startswith("unix:"):
        with suppress(ValueError):
            return _address(value)
    raise ValueError(
        f"invalid address '{value}'; use HOST:PORT or [IPV6]:PORT, with a port from 1 to 65535"
    )


def _duration(value: object) -> object:
    """Accepts a duration instead of a number of seconds."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return float(value)
    return parse_duration(value)


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError("not the URL of a server; write http://HOST[:PORT] or https://HOST[:PORT]")
    return value


def _require_path(value: object) -> object:
    if value == "" or "\0" in str(value):
        raise ValueError("empty path; write one")
    require_expanded(str(value))
    return value


def _absolute(path: Path) -> Path:
    try:
        full = path.expanduser().absolute()
    except (RuntimeError, FileNotFoundError) as error:  # no such user, or no working directory
        raise ValueError(f"'{path}' has no absolute form; write the whole path") from error
    # Normalized as text, like the paths in requests.
    plain = Path(os.path.normpath(full))
    if not str(plain).isprintable():
        raise ValueError(f"{str(plain)!r} has unprintable characters; use another path")
    if os.path.realpath(plain) != (real := os.path.realpath(full)):
        raise ValueError(f"'{path}' has '..' after a symbolic link; write {real}")
    return plain


Value = TypeVar("Value")
Several = Annotated[list[Value], BeforeValidator(split), AfterValidator(_require_distinct)]
Address = Annotated[str, AfterValidator(_address)]
Expanded = Annotated[str, AfterValidator(require_expanded)]
Port = Annotated[str, AfterValidator(_port)]
Endpoint = Annotated[str, AfterValidator(_url)]
Seconds = Annotated[float, BeforeValidator(_duration)]
FilePath = Annotated[Path, BeforeValidator(_require_path), AfterValidator(_absolute)]
