"""A call of the daemon, before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

Result = TypeVar("Result")
Item = TypeVar("Item")

SERVICE: Final = "kekd.v1.EnvelopeService"
MAYBE_APPLIED: Final = "; the write may have been applied"
"""The end of an error after which a write may have been applied."""


class Operation(Generic[Result]):
    """One call: its request, the type of its response, and how to convert that to the result."""

    # No dataclass: one that is immutable takes four times as long to make, for each call.
    __slots__ = (
        *("decode_response", "index_name", "method", "request", "response_type", "writes"),
    )

    def __init__(  # noqa: PLR0913
        self,
        method: str,
        request: Message,
        response_type: type[Message],
        decode_response: Callable[[Any], Result],
        *,
        index_name: str = "",
        writes: Sequence[str] = (),
    ) -> None:
        """`index_name`: that of the request, if the call is about one index. `writes`: indexes
        whose envelope the call may change, even if it fails.
        """
        self.method: Final = method
        self.request: Final = request
        self.response_type: Final = response_type
        self.decode_response: Final = decode_response
        self.index_name: Final = index_name
        self.writes: Final = writes


Page: TypeAlias = Callable[[str], Operation[tuple[Iterable[Item], str]]]
"""Takes the token of a page. Its call returns the page's items and the token of the next page."""
