"""Pages of the versions of one index, and the last one with a record."""

from collections.abc import Iterable, Sequence

from kekd_server.model.errors import NothingToUndeleteError, VersionNotFoundError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.history.version import Version


def page_of(
    versions: Sequence[Version], name: IndexName, after: str, limit: int
) -> Sequence[Version]:
    """See `Driver.list_versions`. `versions` are all of them, newest first."""
    ids = [version.id for version in versions]
    if after and after not in ids:
        raise VersionNotFoundError(name.value, after)
    start = ids.index(after) + 1 if after else 0
    return versions[start : start + limit]


def last_with_record(versions: Iterable[Version], name: IndexName) -> Version:
    """Returns the newest version that is no deletion. Raises `NothingToUndeleteError`."""
    for version in versions:
        if not version.is_deletion:
            return version
    raise NothingToUndeleteError(name.value)
