"""Prints the results of commands in the format of `--output`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import click

from kekd._cli.options.global_options import OUTPUT_FORMATS, GlobalOptions, global_options
from kekd._cli.output.terminal import Color, say

Content: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""The JSON values of a result, or a function that makes them only if they are printed."""

_VERBS: Final = {
    "changed": "change",
    "created": "create",
    "deleted": "delete",
    "destroyed": "destroy",
    "held": "hold",
    "overwritten": "overwrite",
    "provisioned": "provision",
    "pushed": "push",
    "released": "release",
    "restored": "restore",
    "undeleted": "undelete",
}


Row: TypeAlias = tuple[str, Content, Sequence[object]]
"""The name of a result, its content, and its cells in a table."""


class Output:
    def __init__(self, form: str, options: GlobalOptions) -> None:
        self._form = form
        self._options = options

    @property
    def is_text(self) -> bool:
        """Whether humans read the output."""
        return self._form in {"table", "wide"}

    @property
    def is_wide(self) -> bool:
        return self._form == "wide"

    @property
    def has_only_names(self) -> bool:
        """Whether the output of a list is the names of its members."""
        return self._form in {"table", "name"}

    @property
    def is_dry_run(self) -> bool:
        return self._options.is_dry_run

    def show(
        self,
        name: str,
        content: Content,
        text: Iterable[object],
        *,
        color: Color | None = None,
        indent: int | None = None,
    ) -> None:
        """Prints a result: its name, its content as JSON or YAML, or lines of text.

        `indent`: that of the JSON, which is otherwise on one line.
        """
        match self._form:
            case "name" if name:
                say(name)
            case "name":  # the result is about no name
                return
            case "json":
                say(*json.dumps(_values(content), default=_plain, indent=indent).split("\n"))
            case "yaml":
                from kekd._cli.output.yaml_format import yaml_lines  # noqa: PLC0415  (rarely needed)

                plain = json.loads(json.dumps(_values(content), default=_plain))
                say("---", *yaml_lines(plain))
            case _:
                say(*text, color=color)

    def show_table(self, columns: Sequence[str], rows: Iterable[Row]) -> int:
        """Prints rows, for humans below the names of the columns, and returns their number."""
        if self.is_text:
            cells = [[str(cell) for cell in row] for _, _, row in rows]
            say(*_align([columns, *cells] if cells else []))
            return len(cells)
        count = 0
        for count, (name, content, _) in enumerate(rows, 1):  # noqa: B007
            self.show(name, content, ())
        return count

    def show_change(
        self, name: str, outcome: str, text: object, *, key: str = "index_name", **details: object
    ) -> None:
        """Prints what a command changed, or would change.

        `text`: what humans read. `key`: the key of the name in JSON.
        """
        described = self.describe(outcome)
        if described != outcome:
            text, details = f"{described} {name}", {}
        self.show_outcome(name, {key: name, "outcome": described, **details}, [text])

    def show_outcome(self, name: str, content: Mapping[str, Any], text: Iterable[object]) -> None:
        """Prints a result that has an `outcome`. The format `name` omits what didn't change."""
        is_unchanged = content["outcome"] in {"failed", "refused", "unchanged"}
        self.show("" if is_unchanged else name, content, text)

    def describe(self, outcome: str) -> str:
        """Returns what a dry run calls an outcome, such as `would create` for `created`."""
        verb = _VERBS.get(outcome)
        return f"would {verb}" if verb and self.is_dry_run else outcome


def _make_output(context: click.Context, _: click.Parameter, value: str | None) -> Output:
    options = global_options(context)
    form = value or options.flags.get("output") or OUTPUT_FORMATS[0]
    if form == "name" and options.is_dry_run:
        say("kekctl: dry run: these names would change", error=True)
    return Output(form, options)


def _record_dry_run(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001
    global_options(context).is_dry_run |= value


def _make_output_without_names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> Output:
    if value is None and global_options(context).flags.get("output") == "name":
        raise click.UsageError(f"'{context.command_path}' prints no names; use another --output")
    return _make_output(context, parameter, value)


_output_option = partial(click.option, "--output", "-o", help="Output format (default: table).")
output_option = _output_option(type=click.Choice(OUTPUT_FORMATS), callback=_make_output)
"""Passes an `Output`."""
output_option_without_names = _output_option(
    type=click.Choice([form for form in OUTPUT_FORMATS if form != "name"]),
    callback=_make_output_without_names,
)

dry_run_option = click.option(
    "--dry-run",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_record_dry_run,
    help="Do everything except changing something.",
)
"""Makes the client of the command one that only reads, and its output say so."""


def _values(content: Content) -> Mapping[str, Any]:
    return content() if callable(content) else content


def _plain(value: Any) -> str:
    from kekd._cli.output.times import format_timestamp  # noqa: PLC0415  (rarely needed)

    return format_timestamp(value)


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
