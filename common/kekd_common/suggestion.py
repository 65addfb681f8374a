"""Suggests what an unknown name was meant to be."""

from collections.abc import Collection
from typing import Final

_MIN_SIMILARITY: Final = 0.75


def closest(
    name: str, known: Collection[str], min_similarity: float = _MIN_SIMILARITY
) -> str | None:
    """Returns the most similar name. `min_similarity` is a ratio of `difflib`."""
    # Imported here, because nearly every start has no unknown name.
    from difflib import get_close_matches  # noqa: PLC0415

    return next(iter(get_close_matches(name, sorted(known), 1, min_similarity)), None)
