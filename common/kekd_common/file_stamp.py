"""Detects changes of files."""

import os
from pathlib import Path
from typing import TypeAlias

FileStamp: TypeAlias = tuple[int, ...]


def file_stamp(path: str | os.PathLike[str]) -> FileStamp:
    """Returns a value that changes when the file, or the target of a link, is written or replaced.
    It is empty if there is no file.
    """
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
