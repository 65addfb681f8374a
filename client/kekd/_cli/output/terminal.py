"""Prints to a terminal: UTF-8 in every locale, without control characters."""

import os
import sys
from typing import Final, Literal, TypeAlias

import click

from kekd_common.printable import printable

_STREAMS: Final = (("stdin", "r"), ("stderr", "w"))


Color: TypeAlias = Literal["green", "red", "yellow"]


def say(*lines: object, error: bool = False, color: Color | None = None) -> None:
    """Prints each text as one line, with control characters escaped.

    Index names, etags and a daemon's errors are untrusted: they could steer the terminal or forge
    lines. Prints no color except on a terminal, and none if NO_COLOR is set (https://no-color.org).
    """
    is_plain = color is None or bool(os.environ.get("NO_COLOR"))
    for line in lines:
        text = printable(str(line))
        click.echo(text if is_plain else click.style(text, fg=color), err=error)


def open_streams() -> None:
    """Opens closed standard streams, as after `2>&-`, as /dev/null, and makes output UTF-8.

    Bytes that aren't UTF-8 are printed as escapes.
    """
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  (stays open)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
