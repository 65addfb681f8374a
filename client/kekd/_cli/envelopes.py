"""Commands that read and write single envelopes, list or watch them, or wait for the daemon."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

import click

import kekd
from kekd._cli.command_line import command_line
from kekd._cli.common import (
    STOPPED,
    Seconds,
    if_etag_option,
    main,
    open_client,
    output_option,
    pass_client,
    prefix_option,
    store_option,
)
from kekd._cli.json_format import EnvelopeJSON
from kekd._cli.terminal import say
from kekd._transport import timeouts
from kekd._transport.operation import SERVICE

_file = click.option(
    "--file",
    "-f",
    type=click.File(encoding="utf-8"),
    required=True,
    help="Envelope as JSON, from 'get --output json' or a line of a backup (-: standard input).",
)


@main.command()
@click.argument("index")
@click.option("--version", metavar="VERSION", help="Show this version, from 'kekctl history'.")
@store_option
@output_option
@pass_client
def get(
    client: kekd.Client,
    index: str,
    version: str | None,
    store: kekd.StorageConfig | None,
    output: str,
) -> None:
    """Show the envelope of INDEX."""
    envelope = EnvelopeJSON(index, client.get_index_kms(store, index, version_id=version))
    say(*str(envelope).split("\n") if output == "json" else _rows(envelope))


@main.command("list")
@prefix_option
@store_option
@output_option
@pass_client
def list_(client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, output: str) -> None:
    """List the indexes that have an envelope, one per line."""
    for index in client.list_index_kms(store, prefix):
        say(json.dumps({"index_name": index}) if output == "json" else index)


@main.command()
@prefix_option
@store_option
@output_option
@pass_client
def watch(client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, output: str) -> None:
    """Print changes to envelopes, one per line, until Ctrl-C or the daemon disconnects.

    Prints 'resync' first, and again if earlier changes may have been missed.
    """
    try:
        for event in client.watch_index_kms(store, prefix):
            say(_format_json(event) if output == "json" else _format_text(event))
    except KeyboardInterrupt:  # the normal end of a watch
        click.get_current_context().exit(STOPPED)


@main.command()
@_file
@store_option
@pass_client
def create(client: kekd.Client, file: TextIO, store: kekd.StorageConfig | None) -> None:
    """Store the envelope of an index that has none, and print its etag."""
    envelope = _read_envelope(file)
    say(client.create_index_kms(store, envelope.index_name, envelope.blob))


@main.command()
@_file
@if_etag_option
@store_option
@pass_client
def push(
    client: kekd.Client, file: TextIO, if_etag: str | None, store: kekd.StorageConfig | None
) -> None:
    """Store the envelope of an index, replacing any existing one, and print its etag.

    The etag in the file is ignored. To replace only the envelope that you read, pass its etag as
    --if-etag.
    """
    envelope = _read_envelope(file)
    say(client.push_index_kms(store, envelope.index_name, envelope.blob, if_etag=if_etag))


@main.command()
@click.argument("index")
@if_etag_option
@store_option
@click.pass_context
def delete(
    context: click.Context, index: str, if_etag: str | None, store: kekd.StorageConfig | None
) -> None:
    """Delete the envelope of INDEX. Succeeds if there is none.

    Prints the command that undoes it on standard error, if the store keeps a history.
    """
    client = open_client(context)
    existed = client.delete_index_kms(store, index, if_etag=if_etag)
    say("deleted" if existed else "nothing to delete")
    if existed and _has_versions(client, store, index):
        undo = command_line(context, "undelete", index, store)
        say(f"kekctl: to undo this: {undo}", error=True)


@main.command()
@click.option(
    "--for",
    "seconds",
    type=Seconds(0, timeouts.MAX_TIMEOUT),
    default=timeouts.WAIT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Give up after this many seconds; 0 checks once, within --timeout.",
)
@click.option(
    "--service",
    metavar="NAME",
    default=SERVICE,
    help="What must be healthy: a store such as disk:/var/lib/cyborgdb, or '' for the process alone"
    " (default: at least one store, which may be another than the default store).",
)
@pass_client
def wait(client: kekd.Client, seconds: float, service: str) -> None:
    """Wait until the daemon serves, for example in a start-up probe."""
    try:
        client.wait(seconds, service=service)
    except kekd.EnvelopeNotFoundError:
        raise click.BadParameter(
            f"the daemon has no store '{service}'; 'kekctl status' lists its stores",
            param_hint="--service",
        ) from None


def _read_envelope(file: TextIO) -> EnvelopeJSON:
    # Imported here because reading an envelope of the daemon needs no backup format.
    from kekd._cli.backup import json_lines  # noqa: PLC0415

    return json_lines.parse(file.read())


def _has_versions(client: kekd.Client, store: kekd.StorageConfig | None, index: str) -> bool:
    try:
        return any(True for _ in client.list_versions_index_kms(store, index, page_size=1))
    except kekd.EnvelopeError:  # an older daemon, or the caller may not read
        return False


def _format_json(event: kekd.Change | kekd.Resync) -> str:
    if isinstance(event, kekd.Resync):
        return json.dumps({"kind": "resync"})
    return json.dumps(dataclasses.asdict(event))


def _format_text(event: kekd.Change | kekd.Resync) -> str:
    if isinstance(event, kekd.Resync):
        return "resync"
    etag = f" {event.etag}" if event.etag else ""
    return f"{event.kind} {event.index_name}{etag}"


def _rows(envelope: EnvelopeJSON) -> Iterator[str]:
    blob = envelope.blob
    rows = {
        "index": envelope.index_name,
        "kms_name": blob.kms_name,
        "provider": blob.provider,
        "key_id": blob.key_id,
        "region": blob.region,
        "wrapped_kek": f"{len(blob.wrapped_kek)} bytes",
        "version": str(blob.version),
        "created_at": _format_time(blob.created_at),
        "key_arn": blob.key_arn,
        "binding": blob.binding,
        "etag": blob.etag,
    }
    return (f"{name:<12}{value}" if value else name for name, value in rows.items())


def _format_time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""
    except (OverflowError, ValueError, OSError):  # outside the calendar
        return str(seconds)
