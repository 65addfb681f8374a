"""The pauses of a write to a disk, one for each fsync(2)."""

import os
from contextlib import suppress
from typing import NamedTuple

from kekd_server.model.folder import sync_folder


class FileSync(NamedTuple):
    descriptor: int

    def begin(self) -> None:
        """Starts to write the file to the disk, so that the fsyncs of several files overlap. On
        Linux, POSIX_FADV_DONTNEED does that.
        """
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def wait(self) -> None:
        os.fsync(self.descriptor)


class FolderSync(NamedTuple):
    """One fsync(2) of a folder serves all writes that made their changes before it."""

    path: str

    def begin(self) -> None:
        pass

    def wait(self) -> None:
        sync_folder(self.path)
