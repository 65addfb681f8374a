"""Which indexes the rules of a policy can cover, as ranges that a store can be asked for."""

from collections.abc import Iterable, Sequence
from re import compile as pattern
from typing import Final, NamedTuple

from kekd_common.policy.rules import Rule

_WILDCARD: Final = pattern(r"[*?\[]")


class IndexRange(NamedTuple):
    """The indexes that start with `text`, or the one of that very name."""

    text: str
    is_exact: bool = False

    def covers(self, other: "IndexRange") -> bool:
        return self == other or (not self.is_exact and other.text.startswith(self.text))


EVERY_INDEX: Final = IndexRange("")


def index_ranges(rules: Iterable[Rule]) -> list[IndexRange]:
    """Every index that one of the rules covers is in one of these. They may hold others too."""
    return _without_covered({_range(glob) for rule in rules for glob in rule.indexes})


def common_ranges(one: Sequence[IndexRange], other: Sequence[IndexRange]) -> list[IndexRange]:
    """What is in a range of both."""
    if EVERY_INDEX in one:
        return list(other)
    if EVERY_INDEX in other:
        return list(one)
    return _without_covered({*_covered(one, other), *_covered(other, one)})


def _range(glob: str) -> IndexRange:
    wildcard = _WILDCARD.search(glob)
    return IndexRange(glob[: wildcard.start()]) if wildcard else IndexRange(glob, is_exact=True)


def _covered(inner: Sequence[IndexRange], outer: Sequence[IndexRange]) -> Iterable[IndexRange]:
    prefixes = tuple(it.text for it in outer if not it.is_exact)
    exact = {it for it in outer if it.is_exact}
    return (it for it in inner if it in exact or it.text.startswith(prefixes))


def _without_covered(ranges: Iterable[IndexRange]) -> list[IndexRange]:
    """Sorted, a prefix is followed at once by what starts with it."""
    kept: list[IndexRange] = []
    for candidate in sorted(ranges):
        if not (kept and kept[-1].covers(candidate)):
            kept.append(candidate)
    return kept
