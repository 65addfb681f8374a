"""The lines of audit files: those that are compressed, and those that are still written."""

import gzip
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeAlias, cast

_BLOCK_BYTES: Final = 1 << 16

Line: TypeAlias = tuple[int, bytes]
"""Its number in its file, from 1, and what it says."""


def lines(path: Path) -> Iterator[Line]:
    """Of a file, which is compressed if its name ends in .gz. Raises OSError, EOFError and
    zlib.error.
    """
    with cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
        yield from enumerate(file, 1)


def followed(path: Path) -> Generator[Line | None, None, None]:
    """Of a file that is written, and of those that take its place after a rotation, without end;
    None whenever there is nothing to read. Raises OSError if there is no file to begin with.

    The file that was moved is read on until the next rotation: who writes notices the move later,
    and several do one after the other.
    """
    before, current = None, _LogFile(path)
    try:
        while True:
            if before:
                yield from before.lines()
            yield from current.lines()
            successor = current.successor()
            if successor is None:
                yield None
                continue
            if before:
                yield from before.rest()
                before.close()
            before, current = current, successor
    finally:
        for file in filter(None, (before, current)):
            file.close()


class _LogFile:
    """A file that is written. What has no end of line yet waits for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._begun = b""
        self._number = 0

    def lines(self) -> Iterator[Line]:
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._begin_anew()
        while block := self._file.read(_BLOCK_BYTES):
            *whole, self._begun = (self._begun + block).split(b"\n")
            for line in whole:
                self._number += 1
                yield self._number, line

    def rest(self) -> Iterator[Line]:
        """What never got its end."""
        if self._begun:
            yield self._number + 1, self._begun

    def successor(self) -> Self | None:
        """The file that has the name now, if it is another."""
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                return None
            return type(self)(self._path)
        except FileNotFoundError:  # between a move and the next write
            return None

    def close(self) -> None:
        self._file.close()

    def _begin_anew(self) -> None:
        """It was cut to nothing, as some rotate, and written to from its beginning."""
        self._file.seek(0)
        self._begun, self._number = b"", 0
