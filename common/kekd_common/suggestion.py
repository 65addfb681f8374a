"""Suggests what an unknown name was meant to be."""

from collections.abc import Collection
from typing import Final

_MIN_SIMILARITY: Final = 0.75


def closest(name: str, known: Collection[str]) -> str | None:
    # Imported here, because nearly every start has no unknown name.
    from difflib import get_close_matches  # noqa: PLC0415

    return next(iter(get_close_matches(name, sorted(known), 1, _MIN_SIMILARITY)), None)
