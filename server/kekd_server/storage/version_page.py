"""Pages of the versions of one index."""

from collections.abc import Sequence

from kekd_server.model.errors import VersionNotFoundError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.version import Version


def page_of(
    versions: Sequence[Version], name: IndexName, after: str, limit: int
) -> Sequence[Version]:
    """See `Driver.list_versions`. `versions` are all of them, newest first."""
    ids = [version.id for version in versions]
    if after and after not in ids:
        raise VersionNotFoundError(name.value, after)
    start = ids.index(after) + 1 if after else 0
    return versions[start : start + limit]
