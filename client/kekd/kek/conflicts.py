"""Repeats changes that lost to another caller's."""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from kekd.errors import EnvelopeExistsError, EtagMismatchError

Result = TypeVar("Result")

_TIMEOUT: Final = 30.0
_INITIAL_BACKOFF: Final = 0.02
_MAX_BACKOFF: Final = 0.2
"""Seconds. Short, because a change that waits long loses to its rivals."""


def retry_conflicts(change: Callable[[], Result]) -> Result:
    """Calls a function that reads an envelope and changes it, again with the newer envelope."""
    end = time.monotonic() + _TIMEOUT
    backoff = _INITIAL_BACKOFF
    while True:
        try:
            return change()
        except (EtagMismatchError, EnvelopeExistsError):
            if time.monotonic() >= end:
                raise
        time.sleep(random.uniform(0, backoff))  # noqa: S311  (no secret)
        backoff = min(2 * backoff, _MAX_BACKOFF)
