"""Servers that answer some calls before they make anything for them."""

from collections.abc import Callable
from typing import Protocol


class AnswerNow(Protocol):
    """Answers some of the calls to a method, without waiting.

    Its methods may raise an error after they have recorded the call. The server then passes the
    error to the method's handler, in place of the request.
    """

    def answer(self, sent: bytes, peer: str) -> bytes | None:
        """Returns the response to the bytes of a request from a caller with this address. None if
        the ordinary path must answer.
        """

    def begin(self) -> Callable[[], None]:
        """Counts an answered call as in flight, until the returned function is called. For a server
        that waits until the caller has read the response.
        """


class AnswerNowServer:
    def __init__(self) -> None:
        self.answers_now: dict[str, AnswerNow] = {}
        """By the path of the method. Add to it before the server starts."""
