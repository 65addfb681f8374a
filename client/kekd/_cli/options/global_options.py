"""The options of every command. Each can come before or after the name of the command."""

import copy
import os
from collections import ChainMap
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from kekd._cli.options.parameters import Duration, Name, OrEmpty, Store
from kekd._transport import address as addresses
from kekd._transport import timeouts, tls

if TYPE_CHECKING:
    from kekd._cli.options.contexts import Contexts

FILE_VARIABLE: Final = "KEKCTL_CONFIG"
OUTPUT_FORMATS: Final = ("table", "wide", "json", "yaml", "name")

_PEM: Final = OrEmpty(click.Path(exists=True, dir_okay=False))


class GlobalOptions:
    """The values of the options, by name with dashes."""

    def __init__(self) -> None:
        self.flags: dict[str, Any] = {}
        """Given on the command line, before or after the command."""
        self.variables: dict[str, Any] = {}
        self.is_dry_run = False

    @cached_property
    def values(self) -> Mapping[str, Any]:
        return ChainMap(*self.layers.values())  # type: ignore[arg-type]  # only read

    @cached_property
    def layers(self) -> Mapping[str, Mapping[str, Any]]:
        """The values by their origin. A flag overrides a variable, which overrides the current
        context.

        An address of a flag or variable replaces the current context as a whole, so that no call to
        another daemon uses its certificate. A context of a flag replaces the variables as a whole.
        An empty flag hides the value of the variable and the context.
        """
        if name := self.flags.get("context"):
            if "address" in self.flags:
                raise click.UsageError("cannot use --context with --address: omit one of them")
            return {"option": self.flags, f"context {name}": _load_contexts().find(name)}
        layers = {"option": self.flags, "variable": self.variables}
        is_selected = "address" in self.flags or "address" in self.variables
        if is_selected or not ((file := contexts_file()) and _may_exist(file)):
            return layers
        contexts = _load_contexts()
        return layers | {f"context {contexts.current}": contexts.find_current()}

    def record(self, name: str, value: Any, source: ParameterSource | None) -> None:
        is_flag = source is ParameterSource.COMMANDLINE
        (self.flags if is_flag else self.variables)[name] = value


def contexts_file() -> Path | None:
    """Returns the file of the variable, or the user's own. None if the user has no home folder."""
    if path := os.environ.get(FILE_VARIABLE):
        return Path(path)
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111  (raises without a home)
    # The rule of XDG: a relative path is invalid. Another user could own the folder that it means.
    return Path(base, "kekd", "contexts.json") if os.path.isabs(base) else None  # noqa: PTH117


def _may_exist(file: Path) -> bool:
    try:
        file.stat()
    except FileNotFoundError:
        return False
    except OSError:  # reading the file reports it
        pass
    return True


def _load_contexts() -> "Contexts":
    # Imported here, because most commands have no context.
    from kekd._cli.options.contexts import Contexts  # noqa: PLC0415

    return Contexts.load()


def complete_context(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    try:
        return [name for name in _load_contexts().by_name if name.startswith(incomplete)]
    except click.ClickException:
        return []


def global_options(context: click.Context) -> GlobalOptions:
    return context.ensure_object(GlobalOptions)


def _record(context: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and param.name:
        options = global_options(context)
        options.record(param.opts[0][2:], value, context.get_parameter_source(param.name))


def _option(*names: str, **settings: Any) -> click.Option:
    # Eager, so that the values are known to the options of the command.
    return click.Option(
        names, is_eager=True, expose_value=False, callback=_record, show_envvar=True, **settings
    )


CONNECTION_OPTIONS: Final = (
    _option(
        "--address",
        envvar=addresses.ADDRESS_VARIABLE,
        metavar="ADDRESS",
        help="Daemon address: unix:PATH or HOST:PORT (default: this user's socket).",
    ),
    _option(
        "--ca",
        envvar=tls.CA_VARIABLE,
        type=_PEM,
        help="CA certificates (PEM) that verify the daemon. Enables TLS.",
    ),
    _option("--cert", envvar=tls.CERT_VARIABLE, type=_PEM, help="Client certificate (PEM)."),
    _option(
        "--key",
        envvar=tls.KEY_VARIABLE,
        type=_PEM,
        help="Private key of the client certificate (PEM).",
    ),
    _option(
        "--server-name",
        envvar=tls.SERVER_NAME_VARIABLE,
        metavar="NAME",
        help="Name expected in the daemon's certificate (default: the address's host).",
    ),
)
CALL_OPTIONS: Final = (
    _option(
        "--context",
        type=Name(),
        metavar="NAME",
        shell_complete=complete_context,
        help="Use this context of 'kekctl config' (default: the current one).",
    ),
    *CONNECTION_OPTIONS,
    _option(
        "--timeout",
        type=Duration(0, timeouts.MAX_TIMEOUT, min_open=True),
        metavar="DURATION",
        help=f"Timeout of each call, including retries, such as 30s or 5m (default:"
        f" {timeouts.DEFAULT_TIMEOUT:g}s).",
    ),
)
_RESULT_OPTIONS: Final = (
    _option(
        "--store",
        type=Store(),
        metavar="STORE",
        help="Store, as named in the daemon's log: memory, disk:PATH or s3:BUCKET[/PREFIX]"
        " (default: that of the context, or the daemon's default store).",
    ),
    _option(
        "--output",
        "-o",
        type=click.Choice(OUTPUT_FORMATS),
        help="Output format (default: table).",
    ),
)
OPTIONS: Final = (*CALL_OPTIONS, *_RESULT_OPTIONS)
"""What the help of kekctl lists."""


def add_global_options(command: click.Command) -> None:
    """Makes a command and its subcommands accept the options that say how to call the daemon.

    Their help omits the options, which `kekctl --help` lists.
    """
    subcommands: Mapping[str, click.Command] = getattr(command, "commands", {})
    for subcommand in subcommands.values():
        add_global_options(subcommand)
    present = {param.name for param in command.params}
    if not subcommands and "context" not in present:
        added = (*_COMMAND_OPTIONS, _NO_OUTPUT_OPTION, _NO_STORE_OPTION)
        command.params += [option for option in added if option.name not in present]


def _copies(options: Sequence[click.Option], **changes: Any) -> Sequence[click.Option]:
    copies = [copy.copy(option) for option in options]
    for option in copies:
        vars(option).update(changes)
    return copies


def _refuse_output(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None or "output" in global_options(context).flags:
        raise click.UsageError(f"'{context.command_path}' has no output formats; omit --output")


def _refuse_store(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None or "store" in global_options(context).flags:
        raise click.UsageError(f"'{context.command_path}' uses no store; omit --store")


_IS_COMPLETING: Final = "_KEKCTL_COMPLETE" in os.environ
_COMMAND_OPTIONS: Final = _copies(CALL_OPTIONS, hidden=not _IS_COMPLETING)
"""Hidden in help. Not hidden to completion, because click doesn't complete hidden options."""
_NO_OUTPUT_OPTION: Final = click.Option(
    ["--output", "-o"], expose_value=False, callback=_refuse_output, hidden=True
)
"""For commands without an output format. Refuses one before the command, too."""
_NO_STORE_OPTION: Final = click.Option(
    ["--store"], expose_value=False, callback=_refuse_store, hidden=True
)
"""The same for commands without a store."""
CONTEXT_OPTIONS: Final = _copies(CONNECTION_OPTIONS, envvar=None)
"""For the command that stores them: a variable can mean another daemon."""
