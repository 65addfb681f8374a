"""The `kekd` command."""

import asyncio
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from kekd_common.command_output import require_output, system_errors
from kekd_server.config.errors import SettingsError
from kekd_server.config.flags import settings_options
from kekd_server.config.loader import load
from kekd_server.config.settings import Settings
from kekd_server.listeners.descriptor_limit import raise_descriptor_limit
from kekd_server.listeners.errors import ListenError
from kekd_server.observability import logs
from kekd_server.process.banner import print_banner
from kekd_server.process.event_loop import loop_factory
from kekd_server.process.hardening import disable_core_dumps


class _Command(click.Command):
    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            with system_errors():  # --help and --version write here
                return super().make_context(*args, **kwargs)
        except click.exceptions.Exit:
            require_output("kekd")
            raise


class _Group(_Command, click.Group):
    command_class = _Command


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@settings_options()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="KEKD_CONFIG",
    help="YAML file with the same settings, such as log_format for --log-format.",
)
@click.option("--print-config", is_flag=True, help="Print each setting and its origin, then exit.")
@click.version_option(package_name="kekd")
@click.pass_context
def main(
    context: click.Context, /, config: Path | None, *, print_config: bool, **flags: Any
) -> None:
    """Key-envelope daemon for CyborgDB keystores.

    Each setting is also an environment variable, such as KEKD_LISTEN for --listen, with commas
    between the values of a list. A flag overrides the variable, which overrides the --config file.
    """
    if context.invoked_subcommand:
        context.obj = config, flags
        return
    with _exit_on_problems():
        loaded = load(_drop_unset(flags), config)
        if print_config:
            require_output("kekd")
            _print(str(loaded).rstrip())
            return
        with logs.configure(loaded.settings.log_format, loaded.settings.log_level):
            disable_core_dumps()
            raise_descriptor_limit()
            _serve(loaded.settings, loaded.config_file)
        # Doesn't wait for what the grace didn't suffice for: the thread of a hung store, a
        # cancelled call, or a pipe without a reader.
        os._exit(0)


@main.command()
@settings_options("disk", "s3", "s3_region", "s3_endpoint")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="The daemon's YAML file."
)
@click.pass_obj
def init(outer: tuple[Path | None, dict[str, Any]], /, config: Path | None, **flags: Any) -> None:
    """Create a keystore for each store that has none.

    The daemon creates none by itself, because a missing keystore can mean that a volume isn't
    mounted. Existing keystores stay unchanged. Without a store in the settings, this creates the
    user's default keystore.
    """
    require_output("kekd")
    outer_config, outer_flags = outer
    with _exit_on_problems():
        settings = load(
            _drop_unset(outer_flags) | _drop_unset(flags), config or outer_config
        ).settings
        # Imported here, because it is slow to import.
        from kekd_server.stores import create_keystores  # noqa: PLC0415

        asyncio.run(create_keystores(settings, _print))


def _print(text: str) -> None:
    with system_errors():
        click.echo(text)


def _drop_unset(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value not in (None, ())}


@contextmanager
def _exit_on_problems() -> Iterator[None]:
    try:
        yield
    except (SettingsError, ListenError) as error:
        click.echo(f"kekd: {error}", err=True)
        sys.exit(2)


def _serve(settings: Settings, config_file: Path | None) -> None:
    def show_banner() -> None:
        # Serves also if standard output can't be written: a full disk, a pipe without a reader.
        with suppress(OSError):
            print_banner(settings)

    if settings.workers > 1:
        # Imported here, because a single process needs no supervisor.
        from kekd_server.process import supervisor  # noqa: PLC0415

        gc.enable()
        asyncio.run(supervisor.run(settings, config_file, on_serving=show_banner))
        return
    # Imported here, because a supervisor doesn't need gRPC.
    from kekd_server import app  # noqa: PLC0415

    asyncio.Runner(loop_factory=loop_factory(settings)).run(
        app.run(settings, config_file, on_serving=show_banner)
    )
