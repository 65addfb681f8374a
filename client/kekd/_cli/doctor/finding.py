"""What a check comes to."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    """What was looked at."""
    level: Level
    text: str
    """What was found."""
    advice: str = ""
    """What to do, where the text doesn't say so itself."""


def ok(check: str, text: str) -> Finding:
    return Finding(check, "ok", text)


def warning(check: str, text: str, advice: str = "") -> Finding:
    return Finding(check, "warning", text, advice)


def failure(check: str, text: str, advice: str = "") -> Finding:
    return Finding(check, "failure", text, advice)
