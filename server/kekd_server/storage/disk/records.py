"""The folder of the records of a keystore."""

import os
from pathlib import Path

from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk.record_cache import RecordCache
from kekd_server.storage.driver import StoredRecord
from kekd_server.storage.etag import etag_of


class DiskRecords:
    """Reads records, and has their paths. Its methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Every file in it whose name is a key is an envelope."""
        self.cache = RecordCache(folder)
        self._prefix = f"{folder}/"

    def path(self, name: IndexName) -> str:
        return self._prefix + name.key

    def read(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord | None:
        """Returns None if there is no record."""
        read = self.cache.read_without_eviction if bypass_cache else self.cache.read
        try:
            return read(name.key)
        except FileNotFoundError:
            # If the folder is missing too, that is an error of the store, and not "not found".
            os.stat(self.folder)
            # A dangling symlink takes the name, and counts as a corrupt record.
            is_link = os.path.islink(self.path(name))
            return StoredRecord(b"", etag_of(b"")) if is_link else None

    def read_etag(self, name: IndexName, *, bypass_cache: bool = False) -> str | None:
        """Returns None if there is no record."""
        stored = self.read(name, bypass_cache=bypass_cache)
        return stored.etag if stored else None

    def find_etag(self, name: IndexName, *, bypass_cache: bool = False) -> str | None:
        """Returns None also for an unreadable file, so that a push can repair it."""
        try:
            return self.read_etag(name, bypass_cache=bypass_cache)
        except OSError:
            return None
