"""Repeats changes that lost to another caller's."""

from typing import Final

import tenacity

from kekd.errors import EnvelopeExistsError, EtagMismatchError

RETRY_CONFLICTS: Final = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type((EtagMismatchError, EnvelopeExistsError)),
    # Short, because a change that waits long loses to its rivals.
    wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.2),
    stop=tenacity.stop_after_delay(30),
    reraise=True,
)
"""Calls a function that reads an envelope and changes it, again with the newer envelope."""
