"""Commands that make one call to the daemon."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

import click

import kekd
from kekd import _operations as operations
from kekd._cli.backup import json_lines
from kekd._cli.common import STOPPED, Seconds, main, output_option, prefix_option, store_option
from kekd._cli.json_format import EnvelopeJSON
from kekd._cli.terminal import say
from kekd._transport import channel

_file = click.option(
    "--file",
    "-f",
    type=click.File(encoding="utf-8"),
    required=True,
    help="JSON as 'get --output json' prints it, or a line of a backup; - for standard input.",
)
_if_etag = click.option(
    "--if-etag", metavar="ETAG", help="Only if the stored envelope has this etag."
)


@main.command()
@click.argument("index")
@store_option
@output_option
@click.pass_obj
def get(client: kekd.Client, index: str, store: kekd.StorageConfig | None, output: str) -> None:
    """Show the envelope of INDEX."""
    document = EnvelopeJSON(index, client.get_index_kms(store, index))
    say(*str(document).split("\n") if output == "json" else _rows(document))


@main.command("list")
@prefix_option
@store_option
@output_option
@click.pass_obj
def list_(client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, output: str) -> None:
    """List the indexes that have an envelope, a line each."""
    for index in client.list_index_kms(store, prefix):
        say(json.dumps({"index_name": index}) if output == "json" else index)


@main.command()
@prefix_option
@store_option
@output_option
@click.pass_obj
def watch(client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, output: str) -> None:
    """Tell of every change to an envelope, a line each, until Ctrl-C or the daemon is lost.

    The line 'resync', the first one and perhaps others, says that changes may have been missed
    before it, and that none is after it.
    """
    try:
        for event in client.watch_index_kms(store, prefix):
            say(_json(event) if output == "json" else _text(event))
    except KeyboardInterrupt:  # how it is meant to end
        click.get_current_context().exit(STOPPED)


@main.command()
@_file
@store_option
@click.pass_obj
def create(client: kekd.Client, file: TextIO, store: kekd.StorageConfig | None) -> None:
    """Store the envelope of an index that has none; print its etag."""
    document = json_lines.parse(file.read())
    say(client.create_index_kms(store, document.index_name, document.blob))


@main.command()
@_file
@_if_etag
@store_option
@click.pass_obj
def push(
    client: kekd.Client, file: TextIO, if_etag: str | None, store: kekd.StorageConfig | None
) -> None:
    """Store the envelope of an index, in place of any that is there; print its etag.

    The etag in the file is not looked at: pass it as --if-etag to replace only what you got.
    """
    document = json_lines.parse(file.read())
    say(client.push_index_kms(store, document.index_name, document.blob, if_etag=if_etag))


@main.command()
@click.argument("index")
@_if_etag
@store_option
@click.pass_obj
def delete(
    client: kekd.Client, index: str, if_etag: str | None, store: kekd.StorageConfig | None
) -> None:
    """Remove the envelope of INDEX. It is no error if there is none."""
    existed = client.delete_index_kms(store, index, if_etag=if_etag)
    say("deleted" if existed else "there was none")


@main.command()
@click.option(
    "--for",
    "seconds",
    type=Seconds(0, channel.MAX_TIMEOUT),
    default=channel.WAIT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Give up after this long; 0 checks once, within --timeout.",
)
@click.option(
    "--service",
    metavar="NAME",
    default=operations.SERVICE,
    help="'' for being alive, or a store's name, 'disk:/var/lib/cyborgdb' say, for that store."
    " Default: the daemon, and one of its stores at least.",
)
@click.pass_obj
def wait(client: kekd.Client, seconds: float, service: str) -> None:
    """Return as soon as the daemon serves: for probes."""
    try:
        client.wait(seconds, service=service)
    except kekd.EnvelopeNotFoundError:
        raise click.BadParameter(
            f"the daemon has no '{service}': its log names its stores.", param_hint="--service"
        ) from None


def _json(event: kekd.Change | kekd.Resync) -> str:
    if isinstance(event, kekd.Resync):
        return json.dumps({"kind": "resync"})
    return json.dumps(dataclasses.asdict(event))


def _text(event: kekd.Change | kekd.Resync) -> str:
    if isinstance(event, kekd.Resync):
        return "resync"
    etag = f" {event.etag}" if event.etag else ""
    return f"{event.kind} {event.index_name}{etag}"


def _rows(document: EnvelopeJSON) -> Iterator[str]:
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
    return (f"{name:<12}{value}" if value else name for name, value in rows.items())


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""
    except (OverflowError, ValueError, OSError):  # beyond what a calendar has
        return str(seconds)
