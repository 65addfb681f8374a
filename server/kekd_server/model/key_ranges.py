"""Which keys of a store a listing has to look at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kekd_common.policy import IndexRange, common_ranges
from kekd_server.model.errors import InvalidIndexNameError
from kekd_server.model.index_name import IndexName, NamePrefix


@dataclass(frozen=True, slots=True)
class KeyRanges:
    """The names whose keys start with one of `keys`, which are sorted, and none of which starts
    with another.
    """

    keys: tuple[str, ...]
    is_exact: bool
    """Whether each key is that of a name."""

    @classmethod
    def of(cls, ranges: Iterable[IndexRange]) -> "KeyRanges":
        """Holds every name of those ranges, and few others: the key of `ab` is in the range `ab.`
        too.
        """
        found = {key: it for it in ranges if (key := _first_of_keys(it)) is not None}
        keys: list[str] = []
        for key in sorted(found):
            if not (keys and key.startswith(keys[-1])):
                keys.append(key)
        is_exact = len(keys) == len(found) and all(it.is_exact for it in found.values())
        return cls(tuple(keys), is_exact=is_exact)

    def name_of(self, key: str) -> IndexName | None:
        """The name whose key this is, if it is one."""
        return IndexName.from_key(key)


def with_prefix(ranges: Sequence[IndexRange], prefix: NamePrefix) -> KeyRanges:
    """The names of those ranges that have the prefix."""
    return KeyRanges.of(common_ranges(ranges, [IndexRange(prefix.value)]))


def _first_of_keys(index_range: IndexRange) -> str | None:
    """What the keys of its names start with; None if it can't have any."""
    try:
        if index_range.is_exact:
            return IndexName(index_range.text).key
        return NamePrefix(index_range.text).key
    except InvalidIndexNameError:
        return None
