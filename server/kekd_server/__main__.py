"""The `kekd` command."""

import asyncio
import gc
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from kekd_server.config.settings import Settings, SettingsError, load
from kekd_server.listeners.descriptors import raise_limit
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.tcp import TcpListener
from kekd_server.observability import logs
from kekd_server.process import supervisor
from kekd_server.process.event_loop import loop_factory
from kekd_server.process.hardening import forbid_dumps


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--listen",
    metavar="ADDRESS",
    multiple=True,
    help="unix:PATH or HOST:PORT; repeatable. Beyond loopback, only with all three --tls flags.",
)
@click.option("--tls-cert", metavar="FILE", help="Certificate for the TCP addresses: PEM.")
@click.option("--tls-key", metavar="FILE", help="Its key.")
@click.option(
    "--tls-client-ca", metavar="FILE", help="CA of the certificates that callers must have: PEM."
)
@click.option(
    "--engine",
    metavar="grpcio|native|auto",
    help="What speaks HTTP/2 on them. Default: auto, which is grpcio.",
)
@click.option("--workers", metavar="N", help="Processes that serve the TCP addresses. Default: 1.")
@click.option(
    "--disk",
    metavar="PATH",
    multiple=True,
    help="A CyborgDB keystore folder; repeatable. The first is the default store.",
)
@click.option(
    "--create-stores/--no-create-stores",
    default=None,
    help="Create missing keystores at startup. Default: no, see 'kekd init'.",
)
@click.option(
    "--memory/--no-memory", default=None, help="A store in memory, gone when the daemon ends."
)
@click.option(
    "--s3",
    metavar="BUCKET[/PREFIX]",
    multiple=True,
    help="An S3 bucket; several with different endpoints need --config.",
)
@click.option(
    "--s3-region", metavar="REGION", help="Region of the bucket. Default: AWS's own chain."
)
@click.option("--s3-endpoint", metavar="URL", help="Endpoint of an S3-compatible server.")
@click.option(
    "--s3-addressing-style",
    metavar="auto|path|virtual",
    help="Whether requests name the bucket in the path or the host. Default: auto, the path at an"
    " endpoint.",
)
@click.option(
    "--s3-poll",
    metavar="SECONDS",
    help="How often to look for others' changes, for those who watch. Default: 30.",
)
@click.option("--audit", metavar="FILE", help="Where to record who did what; - is standard output.")
@click.option("--max-calls", metavar="N", help="Calls at once; more are refused. Default: 1000.")
@click.option("--max-rate", metavar="N", help="Calls a second of one caller. Default: no limit.")
@click.option(
    "--max-burst", metavar="N", help="Calls of one caller at once before that. Default: 100."
)
@click.option(
    "--max-connection-age", metavar="SECONDS", help="Then a connection ends. Default: never."
)
@click.option(
    "--keepalive",
    metavar="SECONDS",
    help="Ask connections without traffic whether they live. Default: 7200.",
)
@click.option("--metrics", metavar="HOST:PORT", help="Where Prometheus scrapes /metrics.")
@click.option(
    "--take-over/--no-take-over",
    default=None,
    help="End the daemon that serves the socket, once this one is ready. Default: no.",
)
@click.option("--log-format", metavar="text|json", help="Default: text.")
@click.option(
    "--shutdown-grace",
    metavar="SECONDS",
    help="Time for calls in flight at shutdown. Default: 10.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="KEKD_CONFIG",
    help="YAML file with the same settings: log_format for --log-format, and so on.",
)
@click.option(
    "--print-config", is_flag=True, help="Print the settings and where each came from, then exit."
)
@click.version_option(package_name="kekd")
@click.pass_context
def main(
    context: click.Context, /, config: Path | None, *, print_config: bool, **flags: Any
) -> None:
    """Key-envelope daemon for CyborgDB keystores.

    Every setting is also a variable, KEKD_LISTEN for --listen and so on, with commas between the
    values of a list. Flag over variable over file over default.
    """
    if context.invoked_subcommand:
        context.obj = config, flags
        return
    with _problems_reported():
        loaded = load(_given(flags), config)
        if print_config:
            click.echo(loaded, nl=False)
            return
        with logs.configured(loaded.settings.log_format):
            forbid_dumps()
            raise_limit()
            _serve(loaded.settings, loaded.policy_file)
        # What is left has had its grace and isn't waited for: the thread of a store that hangs, the
        # remains of a call that was cut off, a pipe that nobody reads.
        os._exit(0)


@main.command()
@click.option("--disk", metavar="PATH", multiple=True, help="A folder; repeatable.")
@click.option("--s3", metavar="BUCKET[/PREFIX]", multiple=True, help="An S3 bucket; repeatable.")
@click.option("--s3-region", metavar="REGION", help="Region of the bucket.")
@click.option("--s3-endpoint", metavar="URL", help="Endpoint of an S3-compatible server.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="The daemon's YAML file."
)
@click.pass_obj
def init(outer: tuple[Path | None, dict[str, Any]], /, config: Path | None, **flags: Any) -> None:
    """Make a keystore for each store that has none.

    A daemon makes none by itself: a folder without a keystore may be the mount point of a volume
    that isn't mounted. What is there already stays as it is. Without any store in the settings
    this is about the user's default store.
    """
    outer_config, outer_flags = outer
    with _problems_reported():
        settings = load(_given(outer_flags) | _given(flags), config or outer_config).settings
        # Imported here, as it takes long.
        from kekd_server.stores import make_keystores  # noqa: PLC0415

        asyncio.run(make_keystores(settings, click.echo))


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value not in (None, ())}


@contextmanager
def _problems_reported() -> Iterator[None]:
    try:
        yield
    except (SettingsError, ListenError) as error:
        click.echo(f"kekd: {error}", err=True)
        sys.exit(2)


def _serve(settings: Settings, policy_file: Path | None) -> None:
    def greet() -> None:
        # Callers are served also where nobody takes it: a full disk, a pipe without a reader.
        with suppress(OSError):
            _greet(settings)

    if settings.workers > 1:
        gc.enable()
        asyncio.run(supervisor.run(settings, policy_file, on_serving=greet))
        return
    # Imported here, as a supervisor does without gRPC.
    from kekd_server import app  # noqa: PLC0415

    asyncio.Runner(loop_factory=loop_factory(settings)).run(
        app.run(settings, policy_file, on_serving=greet)
    )


def _greet(settings: Settings) -> None:
    """For whoever starts it by hand: where it listens, and a line to paste for each way in."""
    if settings.log_format == "json" or (settings.audit and not settings.audit.path):
        return
    listening = " and ".join(str(listener) for listener in settings.listeners)
    click.echo(f"kekd listens on {listening}; Ctrl-C ends it.")
    plain = [it for it in settings.listeners if not (isinstance(it, TcpListener) and it.tls)]
    if not plain:
        return
    address = str(plain[0])
    tcp = next((str(it) for it in plain if isinstance(it, TcpListener)), None)
    target = [tcp] if tcp else ["-unix", "-authority", "localhost", address.removeprefix("unix:")]
    snippet = f"import kekd; print(list(kekd.Client({address!r}).list_index_kms()))"
    lines = [
        [_command("grpcurl"), "-plaintext", *target, "list", "kekd.v1.EnvelopeService"],
        [_command("kekctl"), "--address", address, "list"],
        [_command("python"), "-c", snippet],
    ]
    click.echo("Try:\n")
    for line in lines:
        click.echo(f"  {shlex.join(line)}")
    click.echo()


def _command(name: str) -> str:
    """What runs a command of this installation: its path, unless the shell finds the same."""
    ours = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(ours) or not ours.exists() else str(ours)


if __name__ == "__main__":
    main()
