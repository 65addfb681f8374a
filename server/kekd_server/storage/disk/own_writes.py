"""The files that this daemon made records a moment ago."""

import os
from typing import Final

from kekd_server.model.index_name import IndexName

_MAX_WRITES: Final = 10_000


class OwnWrites:
    """Recognizes a change that the change watcher notices as the daemon's own, which needs no look
    at the history. Another file has another inode, and a file that was written to another time.
    """

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int, int]] = {}

    def add(self, name: IndexName, file: os.stat_result) -> None:
        if len(self._files) >= _MAX_WRITES:
            self._files.clear()  # in one step, as several threads may be here
        self._files[name.key] = _stamp(file)

    def take(self, name: IndexName, file: os.stat_result) -> bool:
        """Returns whether the file is the last one that was added, and forgets that one."""
        return self._files.pop(name.key, None) == _stamp(file)


def _stamp(file: os.stat_result) -> tuple[int, int, int]:
    return file.st_dev, file.st_ino, file.st_mtime_ns
