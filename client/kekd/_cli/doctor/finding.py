"""The result of a check."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from kekd._cli.output.terminal import Color

Level: TypeAlias = Literal["ok", "warning", "failure"]
COLORS: Final[dict[Level, Color]] = {"ok": "green", "warning": "yellow", "failure": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    """The subject of the check."""
    level: Level
    text: str
    advice: str = ""
    """What to do, unless the text says it."""


def ok(check: str, text: str) -> Finding:
    return Finding(check, "ok", text)


def warning(check: str, text: str, advice: str = "") -> Finding:
    return Finding(check, "warning", text, advice)


def failure(check: str, text: str, advice: str = "") -> Finding:
    return Finding(check, "failure", text, advice)
