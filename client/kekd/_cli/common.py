"""Shared by all commands: the `kekctl` group, options and errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec

import click

import kekd
from kekd._cli.commands import CommandGroup
from kekd._cli.errors import BackupError, EnvelopeJSONError
from kekd._cli.exit_codes import describe_exit_codes, exit_code
from kekd._cli.options.global_options import OPTIONS, global_options
from kekd._cli.options.parameters import Store, read_texts_as_utf8
from kekd._cli.options.variables import require_known
from kekd._cli.output.terminal import open_streams, say
from kekd._transport import address as addresses
from kekd._transport import timeouts
from kekd._transport.endpoint import Endpoint
from kekd.kek import errors
from kekd.kek.errors import KekError
from kekd_common.command_output import require_output, system_errors
from kekd_common.printable import printable
from kekd_common.version import __version__

if TYPE_CHECKING:
    from kekd._cli.endpoint_client import EndpointClient

Arguments = ParamSpec("Arguments")

_FIELD: Final = "config_location"


def _find_store(
    context: click.Context, _: click.Parameter, store: kekd.StorageConfig | None
) -> kekd.StorageConfig | None:
    found = global_options(context).values.get("store") if store is None else store
    return kekd.StorageConfig.named(found) if isinstance(found, str) else found


store_option = click.option(
    "--store",
    type=Store(),
    metavar="STORE",
    callback=_find_store,
    help="Store, as named in the daemon's log: memory, disk:PATH or s3:BUCKET[/PREFIX]"
    " (default: that of the context, or the daemon's default store).",
)
prefix_option = click.option(
    "--prefix", default="", help="Only indexes whose names start with this text."
)
if_etag_option = click.option(
    "--if-etag", metavar="ETAG", help="Only if the stored envelope has this etag."
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask.")


class _Group(CommandGroup):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        require_output("kekctl")
        open_streams()
        read_texts_as_utf8(self)
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with system_errors():  # --help and --version write here
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with system_errors():
                try:
                    return super().invoke(ctx)
                finally:
                    sys.stdout.flush()  # here, where its failure is reported
        except (kekd.EnvelopeError, KekError, EnvelopeJSONError, UnicodeDecodeError) as error:
            for text in _messages(error):
                say(f"kekctl: {text}", error=True)
            ctx.exit(exit_code(error))


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=describe_exit_codes(),
    params=[*OPTIONS],
)
@click.version_option(__version__)
def main() -> None:
    """Manage the envelopes of a kekd daemon.

    Each of these options can also follow the command that it applies to.
    """
    warnings.showwarning = _show_warning
    require_known(os.environ)


def open_client(context: click.Context) -> kekd.Client:
    """Returns a client of the daemon that the options select. It closes when kekctl ends.

    Only commands that call a daemon open one, because importing gRPC takes most of their time. In a
    dry run, it writes nothing.
    """
    options = global_options(context)
    timeout = options.values.get("timeout", timeouts.DEFAULT_TIMEOUT)
    client_class = _client_class(is_dry_run=options.is_dry_run)
    try:
        client = client_class(_endpoint(options.values), timeout=timeout)
    except ValueError as error:
        raise click.UsageError(str(error), context) from None
    return context.find_root().with_resource(client)


def _endpoint(values: Mapping[str, Any]) -> Endpoint:
    files = (values.get(name) for name in ("ca", "cert", "key", "server-name"))
    return Endpoint(addresses.resolve(values.get("address")), kekd.Tls.from_options(*files))


def _client_class(*, is_dry_run: bool) -> type[EndpointClient]:
    if is_dry_run:
        from kekd._cli.dry_run import DryRunClient  # noqa: PLC0415  (rarely needed)

        return DryRunClient
    from kekd._cli.endpoint_client import EndpointClient  # noqa: PLC0415  (imports gRPC)

    return EndpointClient


def pass_client(
    command: Callable[Concatenate[kekd.Client, Arguments], None],
) -> Callable[Arguments, None]:
    """Passes a client as the first argument."""

    @wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        command(open_client(click.get_current_context()), *args, **kwargs)

    return run


def describe_place(client: kekd.Client, store: kekd.StorageConfig | None) -> str:
    return f"{printable(str(store or 'the default store'))} of {printable(client.address)}"


def confirm(question: str) -> None:
    """Ends the command unless the user agrees. Without a terminal, reads standard input."""
    click.confirm(question, abort=True, err=True)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"kekctl: warning: {message}", error=True)


def _messages(error: Exception) -> Sequence[str]:
    if isinstance(error, (errors.RegistryError, BackupError)):
        return error.problems
    if isinstance(error, UnicodeError):
        return ["cannot read the file: not valid UTF-8; convert it"]
    text = str(error)
    # The daemon names the field of its API.
    return [f"--store{text[len(_FIELD) :]}" if text.startswith(_FIELD) else text]
