"""Translates errors of system calls on a keystore folder."""

import errno
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from kekd_server.model.errors import StoreMisconfiguredError, StoreUnavailableError
from kekd_server.storage.disk import layout
from kekd_server.storage.disk.durable import UnsyncedError

_TRANSIENT_ERRORS: Final = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
"""Errors that may be gone at the next try. Any other needs the operator."""

_NO_ACCESS: Final = "give the daemon's user read and write access to the folder"
_NO_SPACE: Final = "free space, or enlarge the disk or quota"
_BAD_PATH: Final = "correct the path of the store"
_TOO_MANY_FILES: Final = "raise the limit of open files, and retry"
_ADVICE: Final[Mapping[int | None, str]] = {
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EROFS: "mount the filesystem writable",
    errno.EIO: "check the disk, and retry",
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
    errno.ENAMETOOLONG: _BAD_PATH,
    errno.ELOOP: _BAD_PATH,
    errno.ENOTDIR: _BAD_PATH,
    errno.ESTALE: "mount the network filesystem again, and retry",
}
_DEFAULT_ADVICE: Final = "check the disk and its filesystem"


class OsErrorTranslator:
    """Translates an OSError into an error of the store. A class, as a generator takes longer than
    the rest of a get.
    """

    def __init__(self, root: Path, records: Path) -> None:
        self._root = root
        self._records = records

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, FileNotFoundError) and self._records.is_dir():
            try:
                layout.restore(self._root)
            except OSError as failure:
                error = failure  # for example, the disk is full
            else:
                raise StoreUnavailableError(
                    f"the folder {self._root / '_kekd'} was missing: kekd created it again; retry"
                ) from error
        if isinstance(error, FileNotFoundError):
            raise StoreMisconfiguredError(
                f"the folder {self._root} is missing: its volume may not be mounted; mount it"
            ) from error
        if isinstance(error, OSError):
            # A visible change is no refusal, whatever the error: the caller must ask again.
            is_transient = isinstance(error, UnsyncedError) or error.errno in _TRANSIENT_ERRORS
            kind = StoreUnavailableError if is_transient else StoreMisconfiguredError
            advice = _ADVICE.get(error.errno, _DEFAULT_ADVICE)
            raise kind(f"the store at {self._root} failed: {error.strerror}; {advice}") from error
