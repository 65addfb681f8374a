"""Types of the options and arguments of commands."""

from __future__ import annotations

import math
from typing import Any

import click

import kekd
from kekd._cli.terminal import Text


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


class Name(Text):
    """A text that can't be empty: an empty one comes from a shell variable that isn't set."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("empty value; give a value or omit the option", param, ctx)
        return super().convert(value, param, ctx)
