"""A call of the daemon, before it is sent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message

Result = TypeVar("Result")

SERVICE: Final = "kekd.v1.EnvelopeService"
MAYBE_APPLIED: Final = "; the write may have been applied"
"""The end of an error after which a write may have been applied."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[Result]):
    """One call: its request, the type of its response, and how to convert that to the result."""

    method: str
    request: Message = field(repr=False)
    response_type: type[Message]
    decode_response: Callable[[Any], Result]
    index_name: str = ""
    """The index name in the request, if the call is about one index."""
    writes: Sequence[str] = ()
    """Indexes whose envelope the call may change, even if it fails."""
