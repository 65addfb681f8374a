"""Values that are loaded from files and reloaded while the daemon runs.

A reload applies completely or not at all: if the new content is invalid, the previous value stays
in use and the log says why.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from kekd_common.file_stamp import FileStamp, file_stamp

T = TypeVar("T")

_log = logging.getLogger(__name__)


class ReloadingFile(ABC, Generic[T]):
    """A value that one file or several files hold. The log names the first file."""

    error_type: ClassVar[type[Exception]]
    """The exception that `_read` raises for invalid files."""

    current: T
    """The value in use."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Call it before you set `current`, so that no change in between is missed."""
        self._files = list(files)
        self._seen = self._stamps()
        self._error_message = ""
        self.failed_reloads = 0

    @property
    def load_error(self) -> str:
        """Why the content of the files isn't in use; empty if it is."""
        return "; ".join(self._error_message.splitlines())

    def check(self, *, forced: bool = False) -> None:
        """Reloads the files if they changed, if the last load failed, or if `forced`.

        Logs each change once, whether it was applied or rejected. Logs 'unchanged' only if
        `forced`.
        """
        seen = self._stamps()
        has_changed = seen != self._seen
        if not (has_changed or self._error_message or forced):
            return
        try:
            value = self._read()
        except self.error_type as error:
            self._reject(str(error), verbose=has_changed or forced)
        else:
            self._apply(value, verbose=forced)
        self._seen = seen  # last, so that after an unexpected exception the next check tries again

    @abstractmethod
    def _read(self) -> T:
        """Raises `error_type`."""

    @abstractmethod
    def _describe(self) -> str:
        """Describes the value in use, for the log."""

    def _apply(self, value: T, *, verbose: bool) -> None:
        self._error_message = ""
        if value != self.current:
            self.current = value
            _log.info("%s: now in use: %s", self._files[0], self._describe())
        elif verbose:
            _log.info("%s: unchanged: %s", self._files[0], self._describe())

    def _reject(self, error_message: str, *, verbose: bool) -> None:
        if verbose or error_message != self._error_message:
            self.failed_reloads += 1
            problems = "; ".join(error_message.splitlines())
            _log.error("%s; still in use: %s", problems, self._describe())
        self._error_message = error_message

    def _stamps(self) -> list[FileStamp]:
        return [file_stamp(file) for file in self._files]
