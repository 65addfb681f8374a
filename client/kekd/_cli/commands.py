"""The commands of kekctl, and the modules that define them."""

from collections.abc import Iterable
from importlib import import_module
from typing import Final

import click

from kekd._cli.options.global_options import add_global_options
from kekd._cli.options.parameters import read_texts_as_utf8

_MODULES: Final = {
    "audit": "kekd._cli.audit.command",
    "completion": "kekd._cli.completion",
    "config": "kekd._cli.config",
    "create": "kekd._cli.envelopes",
    "delete": "kekd._cli.envelopes",
    "destroy": "kekd._cli.protection",
    "diff": "kekd._cli.history.command",
    "doctor": "kekd._cli.doctor.command",
    "drift": "kekd._cli.keks",
    "export": "kekd._cli.backup.command",
    "get": "kekd._cli.envelopes",
    "help": "kekd._cli.help",
    "history": "kekd._cli.history.command",
    "hold": "kekd._cli.protection",
    "import": "kekd._cli.backup.command",
    "kms": "kekd._cli.keks",
    "list": "kekd._cli.envelopes",
    "policy": "kekd._cli.policy",
    "provision": "kekd._cli.keks",
    "push": "kekd._cli.envelopes",
    "release": "kekd._cli.protection",
    "restore": "kekd._cli.history.command",
    "rotate": "kekd._cli.keks",
    "status": "kekd._cli.status",
    "undelete": "kekd._cli.history.command",
    "unwrap": "kekd._cli.keks",
    "version": "kekd._cli.version",
    "wait": "kekd._cli.envelopes",
    "watch": "kekd._cli.envelopes",
}


class CommandGroup(click.Group):
    """Imports the module of a command, which adds the command to the group, when it is used.

    Importing all of them would take longer than most commands.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load(_MODULES)
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # An unknown command needs all the others, of which click suggests one.
        self._load([cmd_name] if cmd_name in _MODULES else _MODULES)
        return super().get_command(ctx, cmd_name)

    def _load(self, names: Iterable[str]) -> None:
        if missing := [name for name in names if name not in self.commands]:
            for name in missing:
                import_module(_MODULES[name])
            add_global_options(self)
            read_texts_as_utf8(self)
