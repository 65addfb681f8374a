"""The versions of one index that kekd itself keeps in a bucket.

[PREFIX/]_kekd/history/<key>/<version>             a copy of each record (see VersionFile)
[PREFIX/]_kekd/history/<key>/<time>-destroyed--    the mark of a destruction, without content
[PREFIX/]_kekd/history/<key>/destroyed             there may be marks; without content

Each version is an imported one, or the copy of an object that was the record when kekd kept it. Its
name depends on that version or object alone. So daemons that keep the same version store the same
copy, and a write that fails leaves none to be removed.

A write or a listing may read a record, and keep it after its destruction. So each copy is followed
by a look for marks, which a destruction stores before it removes the copies. One of the two finds
the copy. A version with the time of the mark or an earlier one doesn't count, and is removed.

A listing finds the marks. The object `destroyed`, which a destruction stores after its mark and
before it lists the copies, and which stays, saves that listing: while it is missing, no destruction
has listed the copies yet.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple, Self

from kekd_server.storage.driver import MAX_RECORD_BYTES
from kekd_server.storage.history.version import Version
from kekd_server.storage.history.version_file import VersionFile
from kekd_server.storage.s3.client import S3Client, StoredObject
from kekd_server.storage.s3.errors import RequestError, S3Error
from kekd_server.storage.s3.listing import ListedObject

_ATTEMPTS: Final = 3
_DIGEST: Final = "x-amz-meta-kekd-sha256"
"""The metadata with the SHA-256 of the record, in hex."""
_FLAG: Final = "destroyed"
_MARK: Final = re.compile(r"([0-9a-f]{16})-destroyed--", re.ASCII)


class KeptVersion(NamedTuple):
    file: VersionFile
    size: int

    @property
    def version(self) -> Version:
        return self.file.version(self.size)


class Folder(NamedTuple):
    versions: Sequence[KeptVersion]
    """Newest first."""
    leftovers: Sequence[VersionFile]
    """Versions that a destruction didn't remove, because they came later."""
    marks: Sequence[int]
    """The times of the destructions."""

    @classmethod
    def of(cls, listed: Iterable[ListedObject]) -> Self:
        """`listed`: the objects of the folder."""
        kept, marks = [], []
        for one in listed:
            name = one.key.rpartition("/")[2]
            if VersionFile.is_name(name):
                kept.append(KeptVersion(VersionFile(name), one.size))
            elif mark := _MARK.fullmatch(name):
                marks.append(int(mark[1], 16))
        last = max(marks, default=0)
        versions = [version for version in kept if version.file.time_ns > last]
        leftovers = [version.file for version in kept if version.file.time_ns <= last]
        return cls(sorted(versions, reverse=True), leftovers, marks)

    @property
    def destroyed_ns(self) -> int:
        """The time of the last destruction, and 0 if there was none."""
        return max(self.marks, default=0)


class KeptVersions:
    """Its methods raise `RequestError`, and the errors of botocore for credentials."""

    def __init__(self, client: S3Client, folder: str) -> None:
        self._client = client
        self.folder = folder
        """With a slash at the end."""

    def list(self) -> Sequence[KeptVersion]:
        """Newest first."""
        return self.read_folder().versions

    def read_folder(self) -> Folder:
        pages = self._client.list_objects_v2(self.folder)
        return Folder.of(chain.from_iterable(pages))

    def keep(self, file: VersionFile, record: bytes) -> Folder:
        """Adds a version, unless it was destroyed. Returns what the folder has then."""
        self.add(file, record)
        return self.remove_if_destroyed(file)

    def remove_if_destroyed(self, file: VersionFile) -> Folder:
        """Returns what the folder has then."""
        folder = self.read_folder()
        if file in folder.leftovers:
            self.remove(file)
        return folder

    def may_have_marks(self) -> bool:
        return self._client.find_object(self.folder + _FLAG, 1) is not None

    def mark_destroyed(self, time_ns: int) -> Folder:
        """Marks the versions up to a time as destroyed. Returns what the folder has then."""
        self._client.put_object(self._mark_key(time_ns), b"", {})
        self._client.put_object(self.folder + _FLAG, b"", {})
        folder = self.read_folder()
        for earlier in folder.marks:
            if earlier < time_ns:
                self._client.delete_object(self._mark_key(earlier), {})
        return folder

    def remove_marks(self) -> None:
        """Lets versions be imported that are older than a destruction."""
        for time_ns in self.read_folder().marks:
            self._client.delete_object(self._mark_key(time_ns), {})

    def is_mark(self, key: str) -> bool:
        """Whether the object with this key marks a destruction."""
        name = key.removeprefix(self.folder)
        return name == _FLAG or _MARK.fullmatch(name) is not None

    def add(self, file: VersionFile, record: bytes = b"") -> None:
        """Stores a version, or leaves the one that is there. Tries again even if S3 may have
        applied the request, as that changes nothing.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self._client.put_object(
                    self.folder + file.name,
                    record,
                    {"if-none-match": "*", _DIGEST: hashlib.sha256(record).hexdigest()},
                )
                return
            except RequestError as error:
                if _exists(error):
                    return
                if not error.is_transient or attempt == _ATTEMPTS - 1:
                    raise

    def read(self, file: VersionFile) -> bytes | None:
        """Returns None if it was removed. Raises `ValueError` if another program replaced it."""
        stored = self._client.find_object(self.folder + file.name, MAX_RECORD_BYTES)
        if stored and not _is_copy(stored, file):
            raise ValueError(f"the object {self.folder + file.name} has another content")
        return stored.content if stored else None

    def remove(self, file: VersionFile) -> None:
        self._client.delete_object(self.folder + file.name, {})

    def _mark_key(self, time_ns: int) -> str:
        return f"{self.folder}{time_ns:016x}-destroyed--"


def etag_of(record: bytes) -> str:
    """Returns the etag of an object with this content, unless it is encrypted with KMS."""
    return hashlib.md5(record, usedforsecurity=False).hexdigest()


def _is_copy(stored: StoredObject, file: VersionFile) -> bool:
    """Whether an object has the record that kekd kept. Only another program stores a copy without
    its digest.
    """
    digest = stored.metadata.get(_DIGEST)
    if digest is None:
        return etag_of(stored.content) == file.etag
    return hashlib.sha256(stored.content).hexdigest() == digest


def _exists(error: RequestError) -> bool:
    """Whether S3 refused the request because there is such an object. A conflict with another
    request proves nothing: that one may fail.
    """
    return isinstance(error, S3Error) and error.is_refusal and not error.is_transient
