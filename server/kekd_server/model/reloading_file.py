"""What is read of files, and read anew when they change while the daemon runs.

It is taken whole or not at all: while there is anything wrong with what is there now, what was read
before stays in use, and the log says so.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class ReloadingFile(ABC, Generic[T]):
    """Its first file is the one that the log names."""

    unusable: ClassVar[type[Exception]]
    """What reading raises of files that can't be used."""

    current: T
    """What is in use."""

    def __init__(self, files: Iterable[Path]) -> None:
        """To be called before `current` is read, so that no change in between is missed."""
        self._files = list(files)
        self._seen = self._stamps()
        self._error_message = ""
        self.refusals = 0
        """How often new files weren't taken."""

    @property
    def load_error(self) -> str:
        """Why what is in the files isn't in use; empty if it is."""
        return "; ".join(self._error_message.splitlines())

    def look(self, *, asked: bool = False) -> None:
        """Reads the files if they changed, or are bad and may have become good, or if `asked`.

        The log tells of each change once, whatever comes of it; of nothing at all only if asked.
        """
        seen = self._stamps()
        changed = seen != self._seen
        if not (changed or self._error_message or asked):
            return
        try:
            read = self._read()
        except self.unusable as error:
            self._refuse(str(error), aloud=changed or asked)
        else:
            self._take(read, aloud=asked)
        self._seen = seen  # not before, so that what fails in another way is tried again

    @abstractmethod
    def _read(self) -> T:
        """Raises `unusable`."""

    @abstractmethod
    def _described(self) -> str:
        """What is in use, for the log."""

    def _take(self, read: T, *, aloud: bool) -> None:
        self._error_message = ""
        if read != self.current:
            self.current = read
            _log.info("%s: now in use: %s", self._files[0], self._described())
        elif aloud:
            _log.info("%s: nothing new: %s", self._files[0], self._described())

    def _refuse(self, error_message: str, *, aloud: bool) -> None:
        if aloud or error_message != self._error_message:
            self.refusals += 1
            problems = "; ".join(error_message.splitlines())
            _log.error("%s; still in use: %s", problems, self._described())
        self._error_message = error_message

    def _stamps(self) -> list[tuple[int, ...]]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, ...]:
    """Differs whenever the file was written or replaced, also by way of a link, as Kubernetes does
    with the folder of a secret.
    """
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
