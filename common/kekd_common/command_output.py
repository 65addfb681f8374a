"""Errors of standard output, in the commands `kekd` and `kekctl`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

_FAILED: Final = 1


def require_output(program: str) -> None:
    """Ends the command if its output is closed, as by `>&-`: it can't deliver its result."""
    if sys.stdout is not None:
        return
    if sys.stderr is not None:
        sys.stderr.write(
            f"{program}: cannot write output: standard output is closed; use a file or /dev/null\n"
        )
    sys.exit(_FAILED)


@contextmanager
def system_errors() -> Iterator[None]:
    """Ends the command with one line for an OSError. One without a file is of standard output."""
    try:
        yield
    except BrokenPipeError:  # the reader has stopped; click exits silently
        raise
    except OSError as error:
        if not error.filename:
            # Buffered output would fail again when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        subject = error.filename or "cannot write output"
        raise click.ClickException(f"{subject}: {error.strerror}") from None
