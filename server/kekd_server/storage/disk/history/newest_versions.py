"""The version that this daemon made last of each record."""

import os
import threading
from collections import OrderedDict
from typing import Final, NamedTuple

from kekd_server.model.index_name import IndexName
from kekd_server.storage.history.version_file import VersionFile

_MAX_VERSIONS: Final = 10_000

Stamp = tuple[int, int, int]
"""Device, inode, and time of modification (mtime) of a file."""


class NewestVersion(NamedTuple):
    """A version whose file became the record."""

    file: VersionFile
    etag: str
    stamp: Stamp
    attempt_id: str
    """Of the write that made it."""
    total: int
    """How many versions the record has, at most."""


class NewestVersions:
    """Remembers these versions, so that the next write of the record needs no look at its history.

    Other daemons and CyborgDB share the folder, so any of them may be out of date. A version is
    still the newest one, and the record has no other history to keep, if all of this is so under
    the lock of the record:

    - The record has the stamp and the etag of the version. A program that replaced the record made
      another inode, and one that wrote into it changed the etag. The number of the inode isn't used
      again while the version exists. If the version was removed meanwhile, a file with the same
      number was written later, so it has another time of modification. Within one tick of the
      clock it could have the same one, but with the same etag, it has the same content.
    - The last entry of the record in the ledger is the write that made the version. Every daemon
      enters a write before it links its version. So no daemon has added a version since, not even
      one that was killed before the version became the record.

    Other daemons may still have removed older versions, or added imported ones. Then only the count
    is wrong, which is corrected when it exceeds the limit.
    """

    def __init__(self) -> None:
        # Not a dict, which scans past all deleted keys to find its first one.
        self._versions: OrderedDict[str, NewestVersion] = OrderedDict()
        self._lock = threading.Lock()
        """Held to change it: several threads write, each to another record."""

    def find(self, name: IndexName) -> NewestVersion | None:
        return self._versions.get(name.key)

    def add(self, name: IndexName, version: NewestVersion) -> None:
        with self._lock:
            self._versions.pop(name.key, None)
            self._versions[name.key] = version
            if len(self._versions) > _MAX_VERSIONS:
                self._versions.popitem(last=False)

    def forget(self, name: IndexName) -> None:
        with self._lock:
            self._versions.pop(name.key, None)


def stamp_of(file: os.stat_result) -> Stamp:
    return file.st_dev, file.st_ino, file.st_mtime_ns
