"""What the destructions that are under way remove.

PATH/_kekd/destructions/<key>    a JSON array of the versions, without their records

A destruction that was killed leaves its mark. So the receipt of the repetition also has what the
first attempt removed.
"""

import errno
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable
from kekd_server.storage.disk.record_cache import read_file
from kekd_server.storage.history.destruction import DestroyedVersion

_DISK_FULL_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT)


class DestructionMarks:
    """Use its methods while you hold the lock of the record. They raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(
        self, name: IndexName, versions: Sequence[DestroyedVersion], temporary_folder: Path
    ) -> Sequence[DestroyedVersion]:
        """Marks the versions of a record, and returns them with those that an interrupted
        destruction marked, newest first. On a full disk, a destruction goes on without a mark.
        """
        marked = list(dict.fromkeys((*versions, *self._find(name))))
        if marked:
            content = json.dumps(marked).encode()
            try:
                durable.replace(self._path(name), content, temporary_folder)
            except OSError as error:
                if error.errno not in _DISK_FULL_ERRORS:
                    raise
        return marked

    def end(self, name: IndexName) -> None:
        with suppress(FileNotFoundError):
            durable.remove(self._path(name))

    def _find(self, name: IndexName) -> Iterable[DestroyedVersion]:
        """Returns nothing for a damaged mark."""
        try:
            return [DestroyedVersion(*map(str, fields)) for fields in json.loads(self._read(name))]
        except (FileNotFoundError, ValueError, TypeError):
            return []

    def _read(self, name: IndexName) -> bytes:
        return read_file(self._path(name)).record

    def _path(self, name: IndexName) -> str:
        return f"{self._folder}/{name.key}"
