"""The cache of a client, and the watch that keeps it correct."""

from typing import Final

DEFAULT_MAX_STALENESS: Final = 10.0
"""Here, because every client has this default, and most have no cache."""
