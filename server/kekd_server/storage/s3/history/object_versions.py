"""The versions that S3 keeps of some objects, to remove them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from kekd_server.storage.s3.client import S3Client
from kekd_server.storage.s3.concurrent_requests import map_requests
from kekd_server.storage.s3.errors import RequestError, S3Error
from kekd_server.storage.s3.listing import NULL_VERSION, ListedVersion

_UNSUPPORTED: Final = ("MethodNotAllowed", "NotImplemented")


class VersionKey(NamedTuple):
    """Identifies a version of any object."""

    key: str
    id: str
    etag: str
    modified_ns: int
    """Distinguishes versions without an id, which replace each other."""

    @classmethod
    def of(cls, version: ListedVersion) -> "VersionKey":
        return cls(version.key, version.id, version.etag, version.modified_ns)


class S3ObjectVersions:
    """Its methods raise `RequestError`, and the errors of botocore for credentials."""

    def __init__(self, client: S3Client, keys: Sequence[str], folder: str) -> None:
        """`folder`: with a slash at the end."""
        self._client = client
        self._keys = keys
        self._folder = folder

    def list(self) -> Sequence[ListedVersion]:
        """Returns the versions of exactly these objects and of those in the folder. Empty if the
        server has no versions.
        """
        try:
            versions = [version for key in self._keys for version in self._list_object(key)]
            for page in self._client.list_object_versions(self._folder):
                versions += page
        except S3Error as error:
            if error.code in _UNSUPPORTED:
                return ()
            raise
        return versions

    def remove(self, versions: Iterable[ListedVersion]) -> Mapping[VersionKey, S3Error]:
        """Returns the errors of those that S3 didn't remove. Raises a transient error."""
        errors = map_requests(self._try_remove, versions := list(versions))
        return {
            VersionKey.of(version): error
            for version, error in zip(versions, errors, strict=True)
            if error
        }

    def _list_object(self, key: str) -> Iterator[ListedVersion]:
        for page in self._client.list_object_versions(key):
            yield from (version for version in page if version.key == key)
            if page and page[-1].key != key:
                return  # keys that start with this one follow

    def _try_remove(self, version: ListedVersion) -> S3Error | None:
        try:
            self._client.delete_version(version.key, version.id or NULL_VERSION)
        except RequestError as error:
            if error.is_transient or not isinstance(error, S3Error):
                raise
            return error
        return None
