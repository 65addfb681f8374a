"""Shared by all commands: the `kekctl` group, options, errors and exit codes."""

from __future__ import annotations

import math
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec

import click

import kekd
from kekd._cli.commands import CommandGroup
from kekd._cli.errors import BackupError, EnvelopeJSONError
from kekd._cli.terminal import Text, open_streams, read_texts_as_utf8, say
from kekd._transport import address as addresses
from kekd._transport import timeouts, tls
from kekd.kek import errors
from kekd.kek.errors import KekError
from kekd_common.command_output import require_output, system_errors
from kekd_common.version import __version__

Arguments = ParamSpec("Arguments")

EXIT_CODES: Final = (
    (kekd.EnvelopeNotFoundError, 3),
    (kekd.EnvelopeExistsError, 4),
    (kekd.EtagMismatchError, 5),
    (kekd.OutcomeUnknownError, 5),
    (kekd.HistoryConflictError, 5),
    (kekd.UnavailableError, 6),
    (kekd.DeadlineExceededError, 6),
    (kekd.PermissionDeniedError, 7),
    (kekd.UnauthenticatedError, 7),
    (kekd.CorruptEnvelopeError, 8),
    (kekd.StoreMisconfiguredError, 9),
    (kekd.AuditUnavailableError, 9),
    (kekd.HistoryUnavailableError, 9),
    (kekd.HistoryOffError, 9),
    (kekd.EnvelopeHeldError, 9),
    (kekd.InvalidArgumentError, 2),
    (errors.ProviderUnavailableError, 6),
    (errors.AccessDeniedError, 7),
    (errors.CredentialsError, 7),
    (errors.KeyNotAllowedError, 7),
    (errors.UnwrapError, 8),
    (errors.RegistryError, 2),
    (errors.SlotNotFoundError, 2),
    (errors.KekNotAcceptedError, 2),
    (errors.KekRequiredError, 2),
    (errors.SecretExistsError, 4),
    (errors.KeyNotFoundError, 9),
    (errors.KeyDisabledError, 9),
    (errors.KeyPendingDeletionError, 9),
    (errors.SecretNotFoundError, 9),
    (errors.InvalidSecretError, 9),
    (errors.RegionMismatchError, 9),
    (EnvelopeJSONError, 2),
    (UnicodeDecodeError, 2),
    (Exception, 1),
)
"""The first matching class decides. README.md has the table."""

FAILED: Final = 1
DENIED: Final = 7

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}

STOPPED: Final = 128 + signal.SIGINT
"""The exit code that shells report for a program ended by Ctrl-C."""

EPILOG: Final = """\b
Exit codes:
  0  success                  5  conflict with another write
  1  other failure            6  daemon or store unavailable, or timeout
  2  invalid arguments        7  permission denied
  3  not found                8  corrupt envelope, or KEK cannot be unwrapped
  4  already exists           9  store, audit or key needs operator action
"""


class Store(click.ParamType["kekd.StorageConfig"]):
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


class Seconds(Number):
    name = "number of seconds"


class Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns the duration in seconds."""
        if not (found := re.fullmatch(r"([0-9]{1,9})([dhms])", value, re.ASCII)):
            self.fail(f"{value!r} is not a duration; write 90d, 12h, 30m or 45s", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


class Name(Text):
    """A text that can't be empty: an empty one comes from a shell variable that isn't set."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("empty value; give a value or omit the option", param, ctx)
        return super().convert(value, param, ctx)


store_option = click.option(
    "--store",
    type=Store(),
    metavar="STORE",
    help="Store, as named in the daemon's log: memory, disk:PATH or s3:BUCKET[/PREFIX]"
    " (default: the daemon's default store).",
)
prefix_option = click.option(
    "--prefix", default="", help="Only indexes whose names start with this text."
)
if_etag_option = click.option(
    "--if-etag", metavar="ETAG", help="Only if the stored envelope has this etag."
)
output_option = click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Output format.",
)


_variable_option: Final = partial(click.option, show_envvar=True)
_pem_option: Final = partial(_variable_option, type=click.Path(exists=True, dir_okay=False))


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
            ctx.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@_variable_option(
    "--address",
    envvar=addresses.ADDRESS_VARIABLE,
    metavar="ADDRESS",
    help="Daemon address: unix:PATH or HOST:PORT (default: this user's socket).",
)
@_pem_option(
    "--ca",
    envvar=tls.CA_VARIABLE,
    help="CA certificates (PEM) that verify the daemon. Enables TLS.",
)
@_pem_option("--cert", envvar=tls.CERT_VARIABLE, help="Client certificate (PEM).")
@_pem_option("--key", envvar=tls.KEY_VARIABLE, help="Private key of the client certificate (PEM).")
@_variable_option(
    "--server-name",
    envvar=tls.SERVER_NAME_VARIABLE,
    metavar="NAME",
    help="Name expected in the daemon's certificate (default: the address's host).",
)
@click.option(
    "--timeout",
    type=Seconds(0, timeouts.MAX_TIMEOUT, min_open=True),
    default=timeouts.DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Timeout of each call, including retries.",
)
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context, /, address: str | None, timeout: float, **tls: str | None) -> None:
    """Manage the envelopes of a kekd daemon."""

    def open_client() -> kekd.Client:
        try:
            client = kekd.Client(address, tls=kekd.Tls.from_options(**tls), timeout=timeout)
        except ValueError as error:
            raise click.UsageError(str(error), context) from None
        return context.with_resource(client)

    context.obj = open_client
    warnings.showwarning = _show_warning


def open_client(context: click.Context) -> kekd.Client:
    """Returns a client of the daemon that the options select. It closes when kekctl ends.

    Only commands that call a daemon open one, because importing gRPC takes most of their time.
    """
    client: kekd.Client = context.obj()
    return client


def pass_client(
    command: Callable[Concatenate[kekd.Client, Arguments], None],
) -> Callable[Arguments, None]:
    """Passes a client as the first argument."""

    @wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        command(open_client(click.get_current_context()), *args, **kwargs)

    return run


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"kekctl: warning: {message}", error=True)


def _messages(error: Exception) -> Sequence[str]:
    if isinstance(error, (errors.RegistryError, BackupError)):
        return error.problems
    if isinstance(error, UnicodeError):
        return ["cannot read the file: not valid UTF-8; convert it"]
    return [str(error)]
