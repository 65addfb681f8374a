"""The requests of one operation that are made at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

A = TypeVar("A")
T = TypeVar("T")

MAX_REQUESTS: Final = 8


def map_requests(request: Callable[[A], T], arguments: Iterable[A]) -> list[T]:
    """Calls a function for each argument, in threads. Raises the first error."""
    with ThreadPoolExecutor(MAX_REQUESTS) as threads:
        return list(threads.map(request, arguments))
