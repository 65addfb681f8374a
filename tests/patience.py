"""How long a test waits for a state."""

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 120.0
"""Seconds after which a test gives up. Only a failing test takes that long, so the tests don't
depend on a fast or idle machine.
"""


def eventually(holds: Callable[[], object]) -> None:
    """Fails if the condition doesn't become true."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "the condition didn't become true"
        time.sleep(0.01)
