"""Reads lines of audit log files: compressed ones, and ones that are still written."""

import gzip
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeAlias, cast

_BLOCK_BYTES: Final = 1 << 16

Line: TypeAlias = tuple[int, bytes]
"""A line and its number in its file, from 1."""


def lines(path: Path) -> Iterator[Line]:
    """Reads the lines of a file, which is compressed if its name ends in .gz.

    Raises OSError, EOFError and zlib.error.
    """
    with cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
        yield from enumerate(file, 1)


def follow(path: Path) -> Generator[Line | None, None, None]:
    """Reads a growing file, and the files that replace it after a rotation, without end.

    Yields None whenever there is nothing to read. Raises OSError if the file doesn't exist at the
    start. A rotated file is read until the next rotation, because each worker of the daemon notices
    a rotation at its own time and writes to the old file until then.
    """
    previous, current = None, _LogFile(path)
    try:
        while True:
            if previous:
                yield from previous.lines()
            yield from current.lines()
            successor = current.successor()
            if successor is None:
                yield None
                continue
            if previous:
                yield from previous.partial_line()
                previous.close()
            previous, current = current, successor
    finally:
        for file in filter(None, (previous, current)):
            file.close()


class _LogFile:
    """A growing file. An incomplete last line is kept until its end is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._partial = b""
        self._number = 0

    def lines(self) -> Iterator[Line]:
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._rewind()
        while block := self._file.read(_BLOCK_BYTES):
            *complete, self._partial = (self._partial + block).split(b"\n")
            for line in complete:
                self._number += 1
                yield self._number, line

    def partial_line(self) -> Iterator[Line]:
        """Returns the last line if its end was never written."""
        if self._partial:
            yield self._number + 1, self._partial

    def successor(self) -> Self | None:
        """Opens the file that has the name now, if it is another one."""
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                return None
            return type(self)(self._path)
        except FileNotFoundError:  # between a rename and the next write
            return None

    def close(self) -> None:
        self._file.close()

    def _rewind(self) -> None:
        """Starts again at the beginning: the file was truncated, as copytruncate does."""
        self._file.seek(0)
        self._partial, self._number = b"", 0
