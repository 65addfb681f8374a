"""Names in the order of their keys, from keys that are sorted in memory."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import NameRange


def names_in_order(
    keys: Sequence[str], names: NameRange, after: IndexName | None
) -> Iterator[IndexName]:
    """Yields the names of the range whose keys come after that of `after`."""
    start = bisect_right(keys, after.key) if after else 0
    for prefix in names.prefixes:
        for position in range(max(start, bisect_left(keys, prefix)), len(keys)):
            if not keys[position].startswith(prefix):
                break
            if name := names.name_of(keys[position]):
                yield name
