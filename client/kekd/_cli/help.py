"""`kekctl help`: shows the help of a command."""

import click

from kekd._cli.common import main
from kekd._cli.terminal import say


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
        group = shown.command
        found = group.get_command(shown, name) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(
                f"no command '{' '.join(command)}'; '{shown.command_path} --help' lists them"
            )
        shown = click.Context(found, shown, name)
    say(*shown.get_help().split("\n"))
