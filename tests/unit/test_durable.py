import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kekd_server.model.folder import sync_folder
from kekd_server.storage.disk import durable

KILLED_BEFORE_THE_RENAME = """
import os, sys
from pathlib import Path
from kekd_server.model.folder import sync_folder
from kekd_server.storage.disk import durable

os.rename = lambda *_: os._exit(1)
durable.replace(Path(sys.argv[1]), b"new", Path(sys.argv[2]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "records").mkdir()
    return tmp_path / "records" / "record"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


Fail = Callable[..., None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Makes a function of `os` do its work and then fail, from its nth call on."""

    def set_up(function: str, code: int, *, from_call: int = 1) -> None:
        really, calls = getattr(os, function), 0

        def failing(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            result = really(*arguments, **keywords)
            if calls >= from_call:
                raise OSError(code, os.strerror(code))
            return result

        monkeypatch.setattr(os, function, failing)

    return set_up


@pytest.mark.parametrize(
    ("write", "first", "then"),
    [
        (durable.replace, "rename", "unlink"),
        (durable.replace, "rename", "close"),
        (durable.replace, "write", "close"),
        (durable.replace, "write", "unlink"),
        (durable.replace, "fsync", "close"),
        (durable.create, "link", "unlink"),
        (durable.create, "link", "close"),
        (durable.create, "fsync", "unlink"),
    ],
)
def test_error_during_clean_up_does_not_hide_the_first_error(
    path: Path, temporary: Path, fail: Fail, write: Callable[..., None], first: str, then: str
) -> None:
    fail(first, errno.ENOSPC)
    # Only the closes after the first error belong to the clean-up.
    fail(then, errno.ENOENT, from_call=2 if (first, then) in CLOSED_ONCE_BEFORE else 1)
    with pytest.raises(OSError, match="No space left on device"):
        write(path, b"new", temporary)


CLOSED_ONCE_BEFORE = [("rename", "close"), ("link", "close")]


def test_error_of_a_folder_sync_is_not_hidden_by_its_close(tmp_path: Path, fail: Fail) -> None:
    fail("fsync", errno.EIO)
    fail("close", errno.EBADF)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)


def test_error_during_clean_up_does_not_fail_a_successful_write(
    path: Path, temporary: Path, fail: Fail
) -> None:
    fail("unlink", errno.EIO)
    durable.create(path, b"new", temporary)
    assert path.read_bytes() == b"new"


def test_error_of_a_close_after_a_write_is_raised(path: Path, temporary: Path, fail: Fail) -> None:
    fail("close", errno.EDQUOT)
    with pytest.raises(OSError, match="quota"):
        durable.replace(path, b"new", temporary)
    assert not path.exists()
    assert not list(temporary.iterdir())


@pytest.mark.external
def test_temporary_file_of_a_killed_process_is_removed(path: Path, temporary: Path) -> None:
    command = [sys.executable, "-c", KILLED_BEFORE_THE_RENAME, str(path), str(temporary)]
    assert subprocess.run(command, check=False).returncode == 1
    assert list(temporary.iterdir())
    durable.remove_abandoned(temporary)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(("write", "last"), [(durable.replace, "rename"), (durable.create, "link")])
def test_temporary_file_in_use_is_kept(
    path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[..., None],
    last: str,
) -> None:
    name_file = getattr(os, last)

    def name_file_while_another_starts(*arguments: Any) -> None:
        durable.remove_abandoned(temporary)
        name_file(*arguments)

    monkeypatch.setattr(os, last, name_file_while_another_starts)
    write(path, b"new", temporary)
    assert path.read_bytes() == b"new"


def test_temporary_file_removed_before_its_lock_is_created_again(
    path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    removed: list[Path] = []

    def lock_late(file: int, how: int) -> None:
        if how & fcntl.LOCK_SH and not removed:
            removed.extend(temporary.iterdir())
            durable.remove_abandoned(temporary)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    durable.replace(path, b"new", temporary)
    assert path.read_bytes() == b"new"
    assert len(removed) == 1
