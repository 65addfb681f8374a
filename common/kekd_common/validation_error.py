"""Describes pydantic's errors in the words of kekd."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from kekd_common.printable import printable
from kekd_common.suggestion import closest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

UNDESCRIBED: Final = "invalid value; see the documentation for valid ones"
_INTEGER: Final = "not a whole number; write one such as 4"
_NUMBER: Final = "not a number; write one such as 2.5"
_BOOLEAN: Final = "neither true nor false; write one of them"
_STRING: Final = "not a string; write it in quotes"
_LIST: Final = "not a list; write each entry on a line that begins with '- '"
_MAPPING: Final = "not a mapping; write lines of the form 'key: value'"

_TEXTS: Final[Mapping[str, str]] = {
    "missing": "missing; add it",
    "extra_forbidden": "unknown key; correct or remove it",
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_parsing_size": _INTEGER,
    "int_from_float": _INTEGER,
    "finite_number": _INTEGER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "greater_than": "out of range; use a number above {gt:.10g}",
    "greater_than_equal": "out of range; use {ge:.10g} or more",
    "less_than_equal": "out of range; use {le:.10g} or less",
    "string_type": _STRING,
    "invalid_key": _STRING,
    "string_unicode": "not a string; write it in UTF-8",
    "string_too_short": "empty; write a value",
    "string_too_long": "longer than {max_length} characters; shorten it",
    "string_pattern_mismatch": "not of the form {pattern}; correct it",
    "path_type": "not a path; write it as a string",
    "literal_error": "unknown value{value}; use {expected}",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "too_short": "empty; add an entry",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "value_error": "{error}",
}
"""By the type of the error (https://docs.pydantic.dev/latest/errors/validation_errors/)."""


_MAX_QUOTED: Final = 60


def describe(error: "ErrorDetails", keys: Collection[str] = ()) -> str:
    """Returns why the value is invalid, and what to do. Suggests one of `keys` for an unknown key.

    Quotes an unknown value only if the error has its input.
    """
    if error["type"] == "extra_forbidden" and (key := closest(str(error["loc"][-1]), keys)):
        return f"unknown key; did you mean {key}? Correct or remove it"
    text = _TEXTS.get(error["type"], UNDESCRIBED)
    return text.format(**error.get("ctx", {}), value=_quoted(error.get("input")))


def _quoted(value: object) -> str:
    return f" '{printable(value[:_MAX_QUOTED])}'" if isinstance(value, str) else ""
