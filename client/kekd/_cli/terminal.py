"""What kekctl reads from and writes to a terminal: UTF-8, whatever the locale."""

import os
import sys
from typing import Any, Final

import click

from kekd_common.printable import printable

_STREAMS: Final = (("stdin", "r"), ("stderr", "w"))


def say(*lines: object, error: bool = False) -> None:
    """Prints lines. Whatever is in them, none steers the terminal or makes two: index names, etags
    and errors are of others' choosing, a daemon's included.
    """
    for line in lines:
        click.echo(printable(str(line)), err=error)


def open_streams() -> None:
    """Standard input or error that was closed, as by `2>&-`, is as if it were /dev/null. Output is
    UTF-8, in which names are stored, and a byte that isn't is shown by its escape.
    """
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  (for good)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]


class Text(click.ParamType[str]):
    """An argument as UTF-8, in which the daemon stores it. Python decodes arguments by the locale,
    which may be another, and so may the path of a file.
    """

    name = "text"

    def convert(
        self,
        value: str,
        param: click.Parameter | None,  # noqa: ARG002  (click's signature)
        ctx: click.Context | None,  # noqa: ARG002
    ) -> str:
        return os.fsencode(value).decode("utf-8", "surrogateescape")


def read_texts_as_utf8(command: click.Command) -> None:
    """Makes every plain argument of a command and of those below it a `Text`."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = _TEXT
    below: dict[str, Any] = getattr(command, "commands", {})
    for each in below.values():
        read_texts_as_utf8(each)


_TEXT: Final = Text()
