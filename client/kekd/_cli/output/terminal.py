"""Terminal input and output of kekctl: UTF-8 in every locale, without control characters."""

import os
import sys
from typing import Any, Final, Literal, TypeAlias

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


class Text(click.ParamType):  # type: ignore[type-arg]  # it has no parameter before click 8.4
    """Decodes an argument as UTF-8, as the daemon stores it.

    Python decodes arguments by the locale, which may differ. File paths keep that decoding.
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
    """Makes every string parameter of a command and its subcommands a `Text`."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = _TEXT
    subcommands: dict[str, Any] = getattr(command, "commands", {})
    for subcommand in subcommands.values():
        read_texts_as_utf8(subcommand)


_TEXT: Final = Text()
