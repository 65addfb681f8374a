"""Errors of system calls on a keystore folder."""

import errno
import os
from pathlib import Path

import pytest

from kekd_server.model.errors import StoreMisconfiguredError, StoreUnavailableError
from kekd_server.storage.disk.os_errors import OsErrorTranslator


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "give the daemon's user read and write access to the folder"),
        (errno.EDQUOT, "free space, or enlarge the disk or quota"),
        (errno.EROFS, "mount the filesystem writable"),
        (errno.ELOOP, "correct the path of the store"),
        (errno.EFBIG, "check the disk and its filesystem"),
        (errno.EIO, "check the disk, and retry"),
        (errno.EMFILE, "raise the limit of open files, and retry"),
        (errno.ESTALE, "mount the network filesystem again, and retry"),
    ],
)
def test_os_error_has_a_cause_and_advice(tmp_path: Path, code: int, advice: str) -> None:
    kind = StoreUnavailableError if advice.endswith("retry") else StoreMisconfiguredError
    with pytest.raises(kind) as caught, OsErrorTranslator(tmp_path, tmp_path):
        raise OSError(code, os.strerror(code))
    assert str(caught.value) == f"the store at {tmp_path} failed: {os.strerror(code)}; {advice}"
