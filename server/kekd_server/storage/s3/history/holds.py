"""The holds on the records of a bucket.

[PREFIX/]_kekd/holds/<key>    a JSON object; while it exists, kekd doesn't change the record
"""

from collections.abc import Iterator
from typing import Final

from kekd_server.model.errors import EnvelopeHeldError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client

_MAX_BYTES: Final = 1 << 16


class S3Holds:
    """Its methods raise `RequestError`, and the errors of botocore for credentials."""

    def __init__(self, client: S3Client, location: S3Location) -> None:
        self._client = client
        self._folder = location.key("_kekd/holds/")

    def list(self) -> Iterator[IndexName]:
        """Yields the names that are held."""
        for page in self._client.list_objects_v2(self._folder):
            for listed in page:
                if name := IndexName.from_key(listed.key.removeprefix(self._folder)):
                    yield name

    def require_free(self, name: IndexName) -> None:
        """Raises `EnvelopeHeldError`."""
        if hold := self.find(name):
            raise EnvelopeHeldError(name.value, hold.reason)

    def find(self, name: IndexName) -> Hold | None:
        stored = self._client.find_object(self.key(name), _MAX_BYTES)
        return Hold.decode(stored.content) if stored else None

    def add(self, name: IndexName, hold: Hold) -> None:
        """Replaces an earlier hold."""
        self._client.put_object(self.key(name), hold.encode(), {})

    def remove(self, name: IndexName) -> bool:
        """Returns whether there was a hold."""
        if self.find(name) is None:
            return False
        self._client.delete_object(self.key(name), {})
        return True

    def key(self, name: IndexName) -> str:
        return self._folder + name.key
