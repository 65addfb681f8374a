"""Types of the options and arguments of commands."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Final

import click

import kekd

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


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


class Store(click.ParamType):  # type: ignore[type-arg]  # it has no parameter before click 8.4
    name = "store"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> kekd.StorageConfig:
        try:
            return kekd.StorageConfig.named(Text().convert(value, param, ctx))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Number(click.FloatRange):
    """A FloatRange that rejects NaN, which compares false with every bound."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid {self.name}; give one", param, ctx)
        return number


class Duration(Number):
    """A duration such as `5m`, or a number of seconds, as a number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, str) and value[-1:].isalpha():
            # Imported here, because most commands get none.
            from kekd_common.duration import parse_duration  # noqa: PLC0415

            try:
                value = parse_duration(value)
            except ValueError as error:
                self.fail(f"{value!r}: {error}", param, ctx)
        return super().convert(value, param, ctx)


class OrEmpty(click.ParamType):  # type: ignore[type-arg]  # it has no parameter before click 8.4
    """A value of another type, or an empty text, which means no value."""

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self._kind = kind
        self.name = kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._kind.convert(value, param, ctx) if value else ""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return self._kind.shell_complete(ctx, param, incomplete)


class Name(Text):
    """A text that can't be empty: an empty one comes from a shell variable that isn't set."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("empty value; give a value or omit the option", param, ctx)
        return super().convert(value, param, ctx)


def read_texts_as_utf8(command: click.Command) -> None:
    """Makes every string parameter of a command and its subcommands a `Text`."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = _TEXT
    subcommands: dict[str, Any] = getattr(command, "commands", {})
    for subcommand in subcommands.values():
        read_texts_as_utf8(subcommand)


_TEXT: Final = Text()
