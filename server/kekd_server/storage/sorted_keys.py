"""Names by their keys, where those are sorted in memory."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import NameRange


def names_in_order(
    keys: Sequence[str], wanted: NameRange, after: IndexName | None
) -> Iterator[IndexName]:
    """The names of the range whose keys come after that of `after`."""
    past = bisect_right(keys, after.key) if after else 0
    for first in wanted.keys:
        for at in range(max(past, bisect_left(keys, first)), len(keys)):
            if not keys[at].startswith(first):
                break
            if name := wanted.name_of(keys[at]):
                yield name
