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
durable.replace(sys.argv[1], b"new", Path(sys.argv[2]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "records").mkdir()
    return tmp_path / "records" / "record"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def no_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails as the open(2) of NFS does."""
    really_open = os.open

    def open_named(path: object, flags: int, *arguments: Any, **keywords: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return really_open(path, flags, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", open_named)


@pytest.fixture(params=["unnamed", "named"])
def each_kind_of_file(request: pytest.FixtureRequest) -> None:
    if request.param == "named":
        request.getfixturevalue("no_unnamed_files")


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


@pytest.mark.usefixtures("each_kind_of_file")
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
        write(str(path), b"new", temporary)


CLOSED_ONCE_BEFORE = [("rename", "close"), ("link", "close")]


def test_error_of_a_folder_sync_is_not_hidden_by_its_close(tmp_path: Path, fail: Fail) -> None:
    fail("fsync", errno.EIO)
    fail("close", errno.EBADF)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)


@pytest.mark.usefixtures("each_kind_of_file")
def test_error_during_clean_up_does_not_fail_a_successful_write(
    path: Path, temporary: Path, fail: Fail
) -> None:
    fail("unlink", errno.EIO)
    durable.create(str(path), b"new", temporary)
    assert path.read_bytes() == b"new"


@pytest.mark.usefixtures("no_unnamed_files")
def test_error_of_a_close_after_a_write_is_raised(path: Path, temporary: Path, fail: Fail) -> None:
    fail("close", errno.EDQUOT)
    with pytest.raises(OSError, match="quota"):
        durable.replace(str(path), b"new", temporary)
    assert not path.exists()
    assert not list(temporary.iterdir())


@pytest.mark.external
def test_temporary_file_of_a_killed_process_is_removed(path: Path, temporary: Path) -> None:
    command = [sys.executable, "-c", KILLED_BEFORE_THE_RENAME, str(path), str(temporary)]
    assert subprocess.run(command, check=False).returncode == 1
    assert list(temporary.iterdir())
    durable.remove_abandoned(temporary)
    assert not list(temporary.iterdir())


@pytest.mark.external
def test_process_killed_before_the_file_has_a_name_leaves_nothing(
    path: Path, temporary: Path
) -> None:
    killed = KILLED_BEFORE_THE_RENAME.replace(
        "os.rename = lambda *_:", "os.link = lambda *_, **__:"
    )
    command = [sys.executable, "-c", killed, str(path), str(temporary)]
    assert subprocess.run(command, check=False).returncode == 1
    assert not list(temporary.iterdir())


@pytest.mark.usefixtures("no_unnamed_files")
def test_write_without_unnamed_files_leaves_no_temporary_file(path: Path, temporary: Path) -> None:
    durable.create(str(path), b"new", temporary)
    durable.replace(str(path), b"newer", temporary)
    assert path.read_bytes() == b"newer"
    assert not list(temporary.iterdir())


def test_write_without_proc_uses_a_named_file(
    path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_DESCRIPTORS", "/missing")
    durable._can_link_descriptors.cache_clear()
    try:
        durable.create(str(path), b"new", temporary)
    finally:
        durable._can_link_descriptors.cache_clear()
    assert path.read_bytes() == b"new"


@pytest.mark.usefixtures("each_kind_of_file")
@pytest.mark.parametrize(("write", "last"), [(durable.replace, "rename"), (durable.create, "link")])
def test_temporary_file_in_use_is_kept(
    path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[..., None],
    last: str,
) -> None:
    name_file = getattr(os, last)

    def name_file_while_another_starts(*arguments: Any, **keywords: Any) -> None:
        durable.remove_abandoned(temporary)
        name_file(*arguments, **keywords)

    monkeypatch.setattr(os, last, name_file_while_another_starts)
    write(str(path), b"new", temporary)
    assert path.read_bytes() == b"new"


@pytest.mark.usefixtures("no_unnamed_files")
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
    durable.replace(str(path), b"new", temporary)
    assert path.read_bytes() == b"new"
    assert len(removed) == 1
