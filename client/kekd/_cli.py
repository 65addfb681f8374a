"""The `kekctl` command: one call to the daemon, a table or JSON, an exit code."""

import json
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import click

import kekd
from kekd import _rpc
from kekd._document import Document, DocumentError

EXIT_CODES: Final = (
    (kekd.EnvelopeNotFoundError, 3),
    (kekd.EnvelopeExistsError, 4),
    (kekd.EtagMismatchError, 5),
    (kekd.UnavailableError, 6),
    (kekd.DeadlineExceededError, 6),
    (kekd.PermissionDeniedError, 7),
    (kekd.UnauthenticatedError, 7),
    (kekd.CorruptEnvelopeError, 8),
    (kekd.StoreUnusableError, 9),
    (kekd.InvalidArgumentError, 2),
    (kekd.EnvelopeError, 1),
)
"""The first class that fits decides. README.md has the table."""

EPILOG: Final = """\b
Exit codes:
  0  done                     5  conflict: somebody else wrote
  1  another failure          6  daemon or store unavailable, or too slow
  2  bad arguments or input   7  permission denied
  3  not found                8  the stored envelope is corrupt
  4  exists already           9  the daemon's store needs its operator
"""


class _Store(click.ParamType[kekd.StorageConfig]):
    """A store as the daemon names it in its log: memory, disk:PATH or s3:BUCKET[/PREFIX]."""

    name = "store"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> kekd.StorageConfig:
        kind, _, rest = value.partition(":")
        if value == "memory":
            return kekd.StorageConfig.memory()
        if kind == "disk" and rest:
            return kekd.StorageConfig.disk(rest)
        if kind == "s3" and rest:
            bucket, _, prefix = rest.partition("/")
            return kekd.StorageConfig.s3(bucket, prefix=prefix)
        return self.fail("write memory, disk:PATH or s3:BUCKET[/PREFIX]", param, ctx)


_store = click.option(
    "--store",
    type=_Store(),
    metavar="STORE",
    help="memory, disk:PATH or s3:BUCKET[/PREFIX], as the daemon's log has it. Default: its first.",
)
_output = click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table")
_file = click.option(
    "--file",
    "-f",
    type=click.File(),
    required=True,
    help="JSON as 'get --output json' prints it; - for standard input.",
)
_if_etag = click.option(
    "--if-etag", metavar="ETAG", help="Only if the stored envelope has this etag."
)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (kekd.EnvelopeError, DocumentError, UnicodeDecodeError) as error:
            text = "the file is not UTF-8" if isinstance(error, UnicodeError) else str(error)
            click.echo(f"kekctl: {_printable(text)}", err=True)
            ctx.exit(next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 2))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.option(
    "--address",
    envvar=_rpc.ADDRESS_VARIABLE,
    show_envvar=True,
    metavar="ADDRESS",
    help="unix:PATH or HOST:PORT. Default: the socket of a daemon of the same user.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_rpc.DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="For each call, its retries included.",
)
@click.version_option(package_name="kekd")
@click.pass_context
def main(context: click.Context, address: str | None, timeout: float) -> None:
    """Look at and change the envelopes that a kekd daemon keeps."""
    try:
        client = kekd.Client(address, timeout=timeout)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--address") from None
    context.obj = context.with_resource(client)


@main.command()
@click.argument("index")
@_store
@_output
@click.pass_obj
def get(client: kekd.Client, index: str, store: kekd.StorageConfig | None, output: str) -> None:
    """Show the envelope of INDEX."""
    document = Document(index, client.get_index_kms(store, index))
    click.echo(document if output == "json" else _table(document))


@main.command("list")
@click.option("--prefix", default="", help="Only indexes whose name starts with this.")
@_store
@_output
@click.pass_obj
def list_(client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, output: str) -> None:
    """List the indexes that have an envelope, a line each."""
    for index in client.list_index_kms(store, prefix):
        line = json.dumps({"index_name": index}) if output == "json" else _printable(index)
        click.echo(line)


@main.command()
@_file
@_store
@click.pass_obj
def create(client: kekd.Client, file: TextIO, store: kekd.StorageConfig | None) -> None:
    """Store the envelope of an index that has none; print its etag."""
    document = Document.parse(file.read())
    click.echo(client.create_index_kms(store, document.index_name, document.blob))


@main.command()
@_file
@_if_etag
@_store
@click.pass_obj
def push(
    client: kekd.Client, file: TextIO, if_etag: str | None, store: kekd.StorageConfig | None
) -> None:
    """Store the envelope of an index, in place of any that is there; print its etag.

    The etag in the file is not looked at: pass it as --if-etag to replace only what you got.
    """
    document = Document.parse(file.read())
    click.echo(client.push_index_kms(store, document.index_name, document.blob, if_etag=if_etag))


@main.command()
@click.argument("index")
@_if_etag
@_store
@click.pass_obj
def delete(
    client: kekd.Client, index: str, if_etag: str | None, store: kekd.StorageConfig | None
) -> None:
    """Remove the envelope of INDEX. It is no error if there is none."""
    existed = client.delete_index_kms(store, index, if_etag=if_etag)
    click.echo("deleted" if existed else "there was none")


@main.command()
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up after this long.",
)
@click.pass_obj
def wait(client: kekd.Client, seconds: float) -> None:
    """Return as soon as the daemon serves: for start-up probes."""
    client.wait(seconds)


def _table(document: Document) -> str:
    blob = document.blob
    rows = {
        "index": document.index_name,
        "kms_name": blob.kms_name,
        "provider": blob.provider,
        "key_id": blob.key_id,
        "region": blob.region,
        "wrapped_kek": f"{len(blob.wrapped_kek)} bytes",
        "version": str(blob.version),
        "created_at": _time(blob.created_at),
        "key_arn": blob.key_arn,
        "binding": blob.binding,
        "etag": blob.etag,
    }
    return "\n".join(f"{name:<12}{_printable(value)}".rstrip() for name, value in rows.items())


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""
    except (OverflowError, ValueError, OSError):  # beyond what a calendar has
        return str(seconds)


def _printable(text: str) -> str:
    """Text that can't steer a terminal: anything unprintable as JSON escapes it."""
    return text if text.isprintable() else json.dumps(text)
