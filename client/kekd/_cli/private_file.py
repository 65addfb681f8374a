"""Writes files that only their owner can read."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click


@contextmanager
def replace_private(path: Path) -> Iterator[IO[str]]:
    """Yields a file with mode 0600 that replaces `path` when it is complete and durable."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise click.UsageError(f"cannot write {path}: not a regular file; use another path")
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                yield file.file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise click.ClickException(
            f"cannot write {path}: {error.strerror}; use another path"
        ) from None
