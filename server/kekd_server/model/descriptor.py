"""Descriptors of files and folders."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(path: str | Path, flags: int, *, within: int | None = None) -> Iterator[int]:
    """Raises errors of close(2), where a network filesystem may report a failed write. An earlier
    error takes precedence.

    `within`: the descriptor of the folder that a relative path is resolved from.
    """
    file = os.open(path, flags | os.O_CLOEXEC, dir_fd=within)
    try:
        yield file
    except BaseException:
        close_quietly(file)
        raise
    os.close(file)


def close_quietly(file: int) -> None:
    """For a file that was only read or locked, so that the result of close(2) doesn't matter."""
    try:  # noqa: SIM105  (`suppress` takes as long as close(2), for each get from disk)
        os.close(file)
    except OSError:
        pass
