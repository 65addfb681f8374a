"""Folders for the files that are being written."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from kekd_server.storage.disk import durable

_log = logging.getLogger(__name__)


class ThreadFolder(threading.local):
    """A temporary folder for each thread. The kernel lets only one thread at a time create or
    remove files in a folder, and the others spin: in a shared folder, pushes from 16 threads took
    three times as long.
    """

    def __init__(self, temporary: Path, numbers: Iterator[int]) -> None:
        self._path = temporary / str(next(numbers))

    @property
    def path(self) -> Path:
        # Created at each use, as it may have been deleted. Its parents aren't: if they are missing,
        # the keystore is damaged, and that has to be reported.
        if not self._path.is_dir():
            self._path.mkdir(mode=0o700, exist_ok=True)
        return self._path


def remove_abandoned(temporary: Path) -> None:
    """Logs the files that can't be removed: they don't prevent the start."""
    # The folder is missing in a keystore of CyborgDB on a disk that can't be written.
    for folder in temporary.iterdir() if temporary.exists() else ():
        try:
            durable.remove_abandoned(folder)
        except OSError as error:
            _log.warning("temporary files in %s cannot be removed: %s", folder, error.strerror)
