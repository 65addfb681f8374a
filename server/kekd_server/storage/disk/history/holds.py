"""The holds on the records of a keystore folder.

PATH/_kekd/holds/<key>    a JSON object; while it exists, kekd doesn't change the record
"""

import os
from pathlib import Path

from kekd_server.model.errors import EnvelopeHeldError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable
from kekd_server.storage.disk.record_cache import read_file
from kekd_server.storage.history.hold import Hold


class DiskHolds:
    """Use its methods, except `is_held` and `names`, while you hold the lock of the record. They
    raise OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def require_free(self, name: IndexName) -> None:
        """Raises `EnvelopeHeldError`."""
        if hold := self.find(name):
            raise EnvelopeHeldError(name.value, hold.reason)

    def is_held(self, name: IndexName) -> bool:
        return os.path.lexists(self._path(name))

    def names(self) -> list[IndexName]:
        """Returns the names that are held."""
        return list(filter(None, map(IndexName.from_key, os.listdir(self._folder))))  # noqa: PTH208

    def find(self, name: IndexName) -> Hold | None:
        try:
            return Hold.decode(read_file(self._path(name)).record)
        except FileNotFoundError:
            return None

    def add(self, name: IndexName, hold: Hold, temporary_folder: Path) -> None:
        """Replaces an earlier hold."""
        durable.replace(self._path(name), hold.encode(), temporary_folder)

    def remove(self, name: IndexName) -> bool:
        """Returns whether there was a hold."""
        try:
            durable.remove(self._path(name))
        except FileNotFoundError:
            return False
        return True

    def _path(self, name: IndexName) -> str:
        return f"{self._folder}/{name.key}"
