"""The index ranges that the rules of a policy can match, which a store can list."""

from collections.abc import Iterable, Sequence
from re import compile as pattern
from typing import Final, NamedTuple

from kekd_common.policy.rules import Rule

_WILDCARD: Final = pattern(r"[*?\[]")


class IndexRange(NamedTuple):
    """All indexes that start with `text`, or the one index of that name."""

    text: str
    is_exact: bool = False

    def covers(self, other: "IndexRange") -> bool:
        return self == other or (not self.is_exact and other.text.startswith(self.text))


EVERY_INDEX: Final = IndexRange("")


def index_ranges(rules: Iterable[Rule]) -> list[IndexRange]:
    """Returns ranges that contain every index that a rule matches. They may contain others too."""
    return _without_covered({_range(glob) for rule in rules for glob in rule.indexes})


def common_ranges(one: Sequence[IndexRange], other: Sequence[IndexRange]) -> list[IndexRange]:
    """Returns the intersection of two lists of ranges."""
    if EVERY_INDEX in one:
        return list(other)
    if EVERY_INDEX in other:
        return list(one)
    return _without_covered({*_covered(one, other), *_covered(other, one)})


def _range(glob: str) -> IndexRange:
    wildcard = _WILDCARD.search(glob)
    return IndexRange(glob[: wildcard.start()]) if wildcard else IndexRange(glob, is_exact=True)


def _covered(inner: Sequence[IndexRange], outer: Sequence[IndexRange]) -> Iterable[IndexRange]:
    exact = {candidate for candidate in outer if candidate.is_exact}
    prefixes = tuple(prefix.text for prefix in outer if not prefix.is_exact)
    return (wanted for wanted in inner if wanted in exact or wanted.text.startswith(prefixes))


def _without_covered(ranges: Iterable[IndexRange]) -> list[IndexRange]:
    """Sorted, what starts with a prefix follows that prefix directly."""
    kept: list[IndexRange] = []
    for candidate in sorted(ranges):
        if not (kept and kept[-1].covers(candidate)):
            kept.append(candidate)
    return kept
