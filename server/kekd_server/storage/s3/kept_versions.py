"""The versions of one index that kekd itself keeps in a bucket.

[PREFIX/]_kekd/history/<key>/<version>    a copy of each record (see VersionFile)

Each is an imported version, or the copy of an object that was the record when kekd kept it. Its
name depends on that version or object alone. So daemons that keep the same version store the same
copy, and a write that fails leaves none to be removed.
"""

from typing import Final, NamedTuple

from kekd_server.storage.driver import MAX_RECORD_BYTES
from kekd_server.storage.s3.client import S3Client
from kekd_server.storage.s3.errors import RequestError, S3Error
from kekd_server.storage.version import Version
from kekd_server.storage.version_file import VersionFile

_ATTEMPTS: Final = 3


class KeptVersion(NamedTuple):
    file: VersionFile
    size: int

    @property
    def version(self) -> Version:
        return self.file.version(self.size)


class KeptVersions:
    """Its methods raise `RequestError`, and the errors of botocore for credentials."""

    def __init__(self, client: S3Client, folder: str) -> None:
        self._client = client
        self.folder = folder
        """With a slash at the end."""

    def list(self, *, starting_with: str = "") -> "list[KeptVersion]":
        """Returns those whose names start with a text, newest first."""
        pages = self._client.list_objects_v2(self.folder + starting_with)
        kept = [
            KeptVersion(VersionFile(name), listed.size)
            for page in pages
            for listed in page
            if VersionFile.is_name(name := listed.key.removeprefix(self.folder))
        ]
        return sorted(kept, reverse=True)

    def add(self, file: VersionFile, record: bytes = b"") -> None:
        """Stores a version, or leaves the one that is there. Tries again even if S3 may have
        applied the request, as that changes nothing.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self._client.put_object(self.folder + file.name, record, {"if-none-match": "*"})
                return
            except RequestError as error:
                if _exists(error):
                    return
                if not error.is_transient or attempt == _ATTEMPTS - 1:
                    raise

    def read(self, file: VersionFile) -> bytes | None:
        """Returns None if it was removed."""
        stored = self._client.find_object(self.folder + file.name, MAX_RECORD_BYTES)
        return stored.content if stored else None

    def remove(self, file: VersionFile) -> None:
        self._client.delete_object(self.folder + file.name, {})


def _exists(error: RequestError) -> bool:
    """Whether S3 refused the request because there is such an object. A conflict with another
    request proves nothing: that one may fail.
    """
    return isinstance(error, S3Error) and error.is_refusal and not error.is_transient
