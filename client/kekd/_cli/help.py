"""`kekctl help`: shows the help of a command."""

import click

from kekd._cli.common import main
from kekd._cli.output.terminal import say
from kekd_common.suggestion import closest


def _complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    command: click.Command | None = main
    for name in context.params.get("command") or ():
        command = command.get_command(context, name) if isinstance(command, click.Group) else None
    names = command.list_commands(context) if isinstance(command, click.Group) else []
    return [name for name in names if name.startswith(incomplete)]


@main.command("help")
@click.argument("command", nargs=-1, shell_complete=_complete)
@click.pass_context
def help_(context: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of COMMAND, such as 'kekctl help audit tail'."""
    shown = context.find_root()
    for name in command:
        shown = click.Context(_find(shown, name), shown, name)
    say(*shown.get_help().split("\n"))


def _find(parent: click.Context, name: str) -> click.Command:
    group = parent.command
    if not isinstance(group, click.Group):
        raise click.UsageError(f"'{parent.command_path}' has no commands; omit '{name}'")
    found = group.get_command(parent, name)
    if found is None:
        path = parent.command_path
        similar = closest(name, group.list_commands(parent))
        advice = f"use '{path} {similar}'" if similar else f"'{path} --help' lists them"
        raise click.UsageError(f"no command '{path} {name}'; {advice}")
    return found
