"""The ranges of keys that a listing reads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kekd_common.policy import IndexRange, common_ranges
from kekd_server.model.errors import InvalidIndexNameError
from kekd_server.model.index_name import IndexName, NamePrefix


@dataclass(frozen=True, slots=True)
class KeyRanges:
    """The names whose keys start with one of `prefixes`. These are sorted, and none of them starts
    with another.
    """

    prefixes: tuple[str, ...]
    is_exact: bool
    """Whether each prefix is the whole key of a name."""

    @classmethod
    def of(cls, ranges: Iterable[IndexRange]) -> "KeyRanges":
        """Covers every name of those ranges, and few others: the range `ab.` covers the key of `ab`
        too.
        """
        found = {
            key: index_range
            for index_range in ranges
            if (key := _key_prefix(index_range)) is not None
        }
        prefixes: list[str] = []
        for key in sorted(found):
            if not (prefixes and key.startswith(prefixes[-1])):
                prefixes.append(key)
        is_exact = len(prefixes) == len(found) and all(
            index_range.is_exact for index_range in found.values()
        )
        return cls(tuple(prefixes), is_exact=is_exact)

    def name_of(self, key: str) -> IndexName | None:
        """Returns the name that has this key, if there is one."""
        return IndexName.from_key(key)


def with_prefix(ranges: Sequence[IndexRange], prefix: NamePrefix) -> KeyRanges:
    """Returns the names of the ranges that have the prefix."""
    return KeyRanges.of(common_ranges(ranges, [IndexRange(prefix.value)]))


def _key_prefix(index_range: IndexRange) -> str | None:
    """Returns the prefix of the keys of its names; None if it can't have any names."""
    try:
        if index_range.is_exact:
            return IndexName(index_range.text).key
        return NamePrefix(index_range.text).key
    except InvalidIndexNameError:
        return None
