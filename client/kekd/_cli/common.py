"""What the commands of `kekctl` share: the daemon to call, options, exit codes."""

import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click

import kekd
from kekd._cli.backup.json_lines import BackupError
from kekd._cli.json_format import DocumentError
from kekd._cli.terminal import Text, open_streams, read_texts_as_utf8, say
from kekd._transport import channel, tls
from kekd.kek import errors
from kekd.kek.errors import KekError

EXIT_CODES: Final = (
    (kekd.EnvelopeNotFoundError, 3),
    (kekd.EnvelopeExistsError, 4),
    (kekd.EtagMismatchError, 5),
    (kekd.OutcomeUnknownError, 5),
    (kekd.UnavailableError, 6),
    (kekd.DeadlineExceededError, 6),
    (kekd.PermissionDeniedError, 7),
    (kekd.UnauthenticatedError, 7),
    (kekd.CorruptEnvelopeError, 8),
    (kekd.StoreMisconfiguredError, 9),
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
    (DocumentError, 2),
    (UnicodeDecodeError, 2),
    (Exception, 1),
)
"""The first class that fits decides. README.md has the table."""

FAILED: Final = 1
DENIED: Final = 7

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}

STOPPED: Final = 128 + signal.SIGINT
"""What a shell makes of a program that Ctrl-C ended."""

EPILOG: Final = """\b
Exit codes:
  0  done                     5  conflict with another write
  1  another failure          6  daemon or store unavailable, or too slow
  2  bad arguments or input   7  permission denied
  3  not found                8  the envelope is corrupt, or its KEK doesn't open
  4  exists already           9  the daemon's store or a key needs its operator
"""


class _Store(click.ParamType[kekd.StorageConfig]):
    name = "store"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> kekd.StorageConfig:
        try:
            return kekd.StorageConfig.named(Text().convert(value, param, ctx))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Number(click.FloatRange):
    """FloatRange lets NaN through, which is on neither side of any bound."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return number


class Seconds(Number):
    name = "number of seconds"


class Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """In seconds."""
        if not (found := re.fullmatch(r"([0-9]{1,9})([dhms])", value, re.ASCII)):
            self.fail(f"{value!r} is no duration: write 90d, 12h, 30m or 45s", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


class Name(Text):
    """An empty one is a variable that isn't set, and would mean something that nobody asked for."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("it is empty: write it, or leave the flag out", param, ctx)
        return super().convert(value, param, ctx)


store_option = click.option(
    "--store",
    type=_Store(),
    metavar="STORE",
    help="memory, disk:PATH or s3:BUCKET[/PREFIX], as the daemon's log has it. Default: its first.",
)
prefix_option = click.option(
    "--prefix", default="", help="Only indexes whose name starts with this."
)
output_option = click.option(
    "--output", "-o", type=click.Choice(["table", "json"]), default="table"
)


_PEM: Final = click.Path(exists=True, dir_okay=False)


class _Group(click.Group):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        if sys.stdout is None:
            _end_without_output()
        open_streams()
        read_texts_as_utf8(self)
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _system_errors():  # --help and --version write already here
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _system_errors():
                try:
                    return super().invoke(ctx)
                finally:
                    sys.stdout.flush()  # here, where a failure is told, however the command ends
        except (kekd.EnvelopeError, KekError, DocumentError, UnicodeDecodeError) as error:
            for text in _texts(error):
                say(f"kekctl: {text}", error=True)
            ctx.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))


def _end_without_output() -> NoReturn:
    """A command that wrote nothing to an output that is closed, as by `>&-`, hasn't succeeded."""
    if sys.stderr is not None:
        sys.stderr.write("kekctl: standard output is closed: give it a file, or /dev/null\n")
    sys.exit(FAILED)


@contextmanager
def _system_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # which click ends in silence, as whoever read has had enough
        raise
    except OSError as error:
        what = error.filename or "the output can't be written"  # which has no name
        if not error.filename:
            # What is left of it would fail once more as Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise click.ClickException(f"{what}: {error.strerror}") from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.option(
    "--address",
    envvar=channel.ADDRESS_VARIABLE,
    show_envvar=True,
    metavar="ADDRESS",
    help="unix:PATH or HOST:PORT. Default: the socket of a daemon of the same user.",
)
@click.option(
    "--ca",
    type=_PEM,
    envvar=tls.CA_VARIABLE,
    show_envvar=True,
    help="Call over TLS: who vouches for the daemon's certificate, in PEM.",
)
@click.option(
    "--cert",
    type=_PEM,
    envvar=tls.CERT_VARIABLE,
    show_envvar=True,
    help="Certificate to show to the daemon.",
)
@click.option(
    "--key", type=_PEM, envvar=tls.KEY_VARIABLE, show_envvar=True, help="Key of that certificate."
)
@click.option(
    "--server-name",
    envvar=tls.SERVER_NAME_VARIABLE,
    show_envvar=True,
    metavar="NAME",
    help="What the daemon's certificate names. Default: the host in the address.",
)
@click.option(
    "--timeout",
    type=Seconds(0, channel.MAX_TIMEOUT, min_open=True),
    default=channel.DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="For each call, its retries included.",
)
@click.version_option(package_name="kekd")
@click.pass_context
def main(context: click.Context, /, address: str | None, timeout: float, **tls: str | None) -> None:
    """Look at and change the envelopes that a kekd daemon keeps."""
    try:
        client = kekd.Client(address, tls=kekd.Tls.chosen(**tls), timeout=timeout)
    except ValueError as error:
        raise click.UsageError(str(error), context) from None
    context.obj = context.with_resource(client)
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"kekctl: warning: {message}", error=True)


def _texts(error: Exception) -> Sequence[str]:
    if isinstance(error, (errors.RegistryError, BackupError)):
        return error.problems
    if isinstance(error, UnicodeError):
        return ["the file is not UTF-8"]
    return [str(error)]
