"""The names of the indexes in a bucket."""

import heapq
import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, pairwise
from typing import Final

from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import NameRange
from kekd_server.storage.history.version_file import VersionFile
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import MAX_PAGE_SIZE, S3Client
from kekd_server.storage.s3.errors import InvalidResponseError
from kekd_server.storage.s3.listing import ListedObject

_KEY_END: Final = re.compile(r"\.kms\.cat")


class S3Names:
    """Its methods raise `RequestError`, and the errors of botocore for credentials. They yield the
    names after another one, sorted by key.
    """

    def __init__(self, client: S3Client, location: S3Location) -> None:
        self._client = client
        self._records = location.key("_catalog/config/")
        self._history = location.key("_kekd/history/")

    def list(self, names: NameRange, after: IndexName | None, limit: int) -> Iterator[IndexName]:
        """Lists no more keys than it yields, if they are at most `limit`. S3 sorts keys as the
        contract does.
        """
        remaining = limit
        for prefix in _prefixes_after(names, after):
            pages = self._client.list_objects_v2(
                self._records + prefix,
                start_after=self._records + after.key if after else "",
                page_size=remaining or MAX_PAGE_SIZE,
            )
            last = after.key if after else ""
            for page in pages:
                keys = [listed.key.removeprefix(self._records) for listed in page]
                if any(key >= following for key, following in pairwise((last, *keys))):
                    raise InvalidResponseError("a listing that is not sorted by key")
                last = keys[-1] if keys else last
                found = list(filter(None, map(names.name_of, keys)))
                yield from found
                remaining = max(remaining - len(found), 0)

    def list_with_deleted(
        self, names: NameRange, after: IndexName | None, limit: int, *, s3_has_versions: bool
    ) -> Iterator[IndexName]:
        """Includes the names that only have versions."""
        sources: list[Iterable[IndexName]] = [self.list(names, after, limit)]
        for prefix in _prefixes_after(names, after):
            sources.append(_names_of(self._list_kept(prefix, after), names, after))
            if s3_has_versions:
                sources.append(_names_of(self._list_versioned(prefix, after), names, after))
        previous = None
        for name in heapq.merge(*sources, key=lambda name: name.key):
            if name != previous:
                yield name
            previous = name

    def _list_versioned(self, prefix: str, after: IndexName | None) -> Iterator[str]:
        start_after = self._records + after.key if after else ""
        for page in self._client.list_object_versions(
            self._records + prefix, start_after=start_after
        ):
            # Some servers list the deletions last.
            yield from sorted(version.key.removeprefix(self._records) for version in page)

    def _list_kept(self, prefix: str, after: IndexName | None) -> Iterator[str]:
        """Yields the keys of the histories. S3 sorts them with the slash that follows them, so it
        lists `a.kms.cat-b.kms.cat/` before `a.kms.cat/`.
        """
        yielded_early: set[str] = set()
        for key in self._list_histories(prefix, after):
            for shorter in _keys_at_the_start(key):
                if shorter not in yielded_early and self._has_history(shorter):
                    yielded_early.add(shorter)
                    yield shorter
            if key not in yielded_early:
                yield key

    def _list_histories(self, prefix: str, after: IndexName | None) -> Iterator[str]:
        pages = self._client.list_objects_v2(
            self._history + prefix, start_after=self._history + after.key if after else ""
        )
        paths = (
            listed.key.removeprefix(self._history)
            for page in pages
            for listed in page
            if _is_version(listed)
        )
        for key, _ in groupby(paths, key=lambda path: path.partition("/")[0]):
            yield key

    def _has_history(self, key: str) -> bool:
        pages = self._client.list_objects_v2(f"{self._history}{key}/")
        return any(map(_is_version, chain.from_iterable(pages)))


def _is_version(listed: ListedObject) -> bool:
    """Whether an object of a history is no mark of a destruction."""
    return VersionFile.is_name(listed.key.rpartition("/")[2])


def _keys_at_the_start(key: str) -> Iterator[str]:
    """Yields the keys with which a longer key starts, the shortest first. Few keys have any."""
    for match in _KEY_END.finditer(key, 0, len(key) - 1):
        yield key[: match.end()]


def _prefixes_after(names: NameRange, after: IndexName | None) -> Iterator[str]:
    for prefix in names.prefixes:
        # Otherwise, all its keys come before.
        if not after or prefix >= after.key or after.key.startswith(prefix):
            yield prefix


def _names_of(
    keys: Iterable[str], names: NameRange, after: IndexName | None
) -> Iterator[IndexName]:
    for key in keys:
        name = names.name_of(key)
        if name and (not after or key > after.key):
            yield name
