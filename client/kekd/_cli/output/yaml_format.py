"""Formats JSON values as YAML, which needs no library to write."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z/_][A-Za-z0-9/._-]*")
"""Texts that need no quotes. All others are quoted as in JSON, which YAML understands."""
_WORDS: Final = {"false", "n", "no", "null", "off", "on", "true", "y", "yes"}
"""Texts that some version of YAML reads as another type."""


def yaml_lines(value: Any) -> Iterator[str]:
    """Yields the lines of a value. They are YAML after unprintable characters are escaped."""
    match value:
        case dict() if value:
            for key, member in value.items():
                yield from _member(f"{_scalar(key)}:", member)
        case list() if value:
            for item in value:
                first, *others = yaml_lines(item)
                yield f"- {first}"
                yield from (f"  {line}" for line in others)
        case _:
            yield _scalar(value)


def _member(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield key
        yield from (f"  {line}" for line in yaml_lines(value))
    else:
        yield f"{key} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
