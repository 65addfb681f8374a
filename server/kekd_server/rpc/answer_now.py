"""Servers that answer some calls without a task."""

from collections.abc import Callable
from typing import TypeAlias

AnswerNow: TypeAlias = Callable[[bytes, str], bytes | None]
"""Gets a request and the address of its caller. Returns the response, or None if the call needs a
task."""


class AnswerNowServer:
    """Asks the function of a method before it makes a task for a call to it."""

    def __init__(self) -> None:
        self.answers_now: dict[str, AnswerNow] = {}
        """By the path of the method. Add to it before the server starts."""
