"""Whether the records of a keystore folder can be linked into their history."""

import errno
import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from kekd_server.model.errors import StoreMisconfiguredError
from kekd_server.storage.disk import durable

_NO_LINKS: Final = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_MAX_EXAMINED_RECORDS: Final = 1000


class HistoryLinks:
    """Tries links between the folders of a keystore."""

    def __init__(self, history_folder: Path, records: Path) -> None:
        self._folder = history_folder
        self._records = records

    def check(self, temporary_folder: Path) -> None:
        """Raises `StoreMisconfiguredError` if a record can't be linked into the history. Any other
        problem may pass, and fails the writes until then.
        """
        try:
            self._require_one_filesystem()
            durable.probe_link(temporary_folder, self._folder)
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise StoreMisconfiguredError(
                    f"no history can be kept in {self._folder}: {error.strerror}; it must be on the"
                    " filesystem of the records, and that must have hard links; set"
                    " history_versions to 0 to work without a history"
                ) from error

    def _require_one_filesystem(self) -> None:
        """Finds out more than a probe with a temporary file, as that may be beside the history."""
        if self._folder.stat().st_dev != self._records.stat().st_dev:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def find_limitations(self) -> str:
        """Tries to link a record of another user, which Linux may refuse. See
        `Driver.find_limitations`.
        """
        record = self._find_foreign_record()
        if record is None:
            return ""
        try:
            durable.probe_record_link(record, self._folder)
        except PermissionError as error:
            return (
                f"no history can be kept of the records of other users, such as {record}:"
                f" {error.strerror}; make kekd's user their owner, or give it read and write access"
            )
        return ""

    def _find_foreign_record(self) -> str | None:
        own = os.geteuid()
        with os.scandir(self._records) as entries:
            for entry in islice(entries, _MAX_EXAMINED_RECORDS):
                with suppress(FileNotFoundError):
                    if entry.is_file() and entry.stat(follow_symlinks=False).st_uid != own:
                        return entry.path
        return None
