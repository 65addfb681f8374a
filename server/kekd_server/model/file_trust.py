"""Checks whether other users could change kekd's configuration files or read its private key.

A file that anyone can write to is refused: that is never needed. Everything else is a warning: in
containers, files often belong to users of the host, and anyone can write to folders.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Exposure:
    path: Path
    problem: str
    """What other users could do, and how to prevent it."""
    is_refused: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def refusal(path: Path) -> str:
    """Returns why a file is refused, or an empty string."""
    found = file_exposures(path, os.geteuid())
    return next((str(exposure) for exposure in found if exposure.is_refused), "")


def file_exposures(path: Path, uid: int, *, is_secret: bool = False) -> Iterator[Exposure]:
    """Yields the exposures of a file that the user with this id uses. Ignores devices, pipes, and
    files that it can't stat.
    """
    found = _stat(path)
    if found is None or not stat.S_ISREG(found.st_mode):
        return
    if found.st_mode & stat.S_IWOTH:
        yield Exposure(path, f"anyone can write to it; run chmod o-w {path}", is_refused=True)
    if found.st_mode & stat.S_IWGRP:
        yield Exposure(path, f"its group can write to it; run chmod g-w {path}")
    if is_secret and found.st_mode & stat.S_IROTH:
        yield Exposure(path, f"anyone can read this key; run chmod o-r {path}")
    yield from _ownership(path, found, uid)


def folder_exposures(path: Path, uid: int) -> Iterator[Exposure]:
    """Yields the exposures of a folder in which the user with this id has files. In a folder with
    the sticky bit, such as /tmp, users can't replace the files of others.
    """
    found = _stat(path)
    if found is None:
        return
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        yield Exposure(path, f"anyone can replace files in this folder; run chmod o-w {path}")
    yield from _ownership(path, found, uid)


def _ownership(path: Path, found: os.stat_result, uid: int) -> Iterator[Exposure]:
    if found.st_uid not in {_ROOT, uid}:
        yield Exposure(
            path, f"it belongs to user {found.st_uid}, who can change it; chown it to root or {uid}"
        )


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:  # reported when the file is used
        return None
