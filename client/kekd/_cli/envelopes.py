"""Commands that read and write single envelopes, list or watch them, or wait for the daemon."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

import click

import kekd
from kekd._cli.common import (
    confirm,
    describe_place,
    if_etag_option,
    main,
    open_client,
    pass_client,
    prefix_option,
    store_option,
    yes_option,
)
from kekd._cli.errors import is_lost
from kekd._cli.exit_codes import FAILED, STOPPED, exit_code
from kekd._cli.options.index_completion import complete_index
from kekd._cli.options.parameters import Duration
from kekd._cli.output.json_format import EnvelopeJSON
from kekd._cli.output.output import Output, dry_run_option, output_option
from kekd._cli.output.terminal import say
from kekd._transport import timeouts
from kekd._transport.operation import SERVICE
from kekd_common.printable import printable

if TYPE_CHECKING:
    from kekd._models import GetResult

_MAX_NAMED: Final = 10
"""Indexes that a question names."""

_indexes = click.argument(
    "indexes", metavar="INDEX...", nargs=-1, required=True, shell_complete=complete_index
)
_file = click.option(
    "--file",
    "-f",
    type=click.File(encoding="utf-8"),
    required=True,
    help="Envelope, from 'get --output json' or yaml, or a line of a backup (-: standard input).",
)


@main.command()
@_indexes
@click.option("--version", metavar="VERSION", help="Show this version, from 'kekctl history'.")
@store_option
@output_option
@pass_client
def get(
    client: kekd.Client,
    indexes: tuple[str, ...],
    version: str | None,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Show the envelope of each INDEX.

    If an envelope can't be read, the command reports it, shows the others, and exits with the code
    of the first failure.
    """
    found: Iterable[GetResult]
    if len(indexes) == 1:
        found = [(indexes[0], client.get_index_kms(store, indexes[0], version_id=version))]
    elif version is None:
        found = client.get_many_index_kms(store, indexes)
    else:
        raise click.UsageError("--version needs a single INDEX; give one")
    if failures := (_show_list if output.is_wide else _show_each)(found, output):
        click.get_current_context().exit(exit_code(failures[0]))


def _show_each(found: Iterable[GetResult], output: Output) -> list[kekd.EnvelopeError]:
    """Reports envelopes that can't be read, and returns the errors."""
    failures: list[kekd.EnvelopeError] = []
    separator: list[str] = []
    for name, result in found:
        if isinstance(result, kekd.EnvelopeError):
            failures.append(result)
            say(f"kekctl: {result}", error=True)
            continue
        envelope = EnvelopeJSON(name, result)
        output.show(name, envelope.as_content, [*separator, *_rows(envelope)], indent=2)
        separator = [""]
    return failures


def _show_list(found: Iterable[GetResult], output: Output) -> list[kekd.EnvelopeError]:
    # Imported here, because it is rarely needed.
    from kekd._cli.output.envelope_table import show_envelopes  # noqa: PLC0415

    return show_envelopes(found, output)


@main.command("list")
@prefix_option
@store_option
@output_option
@pass_client
def list_(
    client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, output: Output
) -> None:
    """List the indexes that have an envelope, one per line.

    With --output wide, also show the slot, provider, key, region, version and age of each envelope.
    With json or yaml, show what 'get' shows, without the wrapped KEK. If an envelope can't be read,
    the command reports it, lists the others, and exits with 1.
    """
    if output.has_only_names:
        for index in client.list_index_kms(store, prefix):
            output.show(index, {"index_name": index}, [index])
        return
    if _show_list(_scan(client, store, prefix), output):
        click.get_current_context().exit(FAILED)


def _scan(
    client: kekd.Client, store: kekd.StorageConfig | None, prefix: str
) -> Iterator[GetResult]:
    """Yields no envelope that was deleted since it was listed."""
    for name, found in client.scan_index_kms(store, prefix):
        if not isinstance(found, kekd.EnvelopeNotFoundError):
            yield name, found


@main.command()
@prefix_option
@store_option
@output_option
@pass_client
def watch(
    client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, output: Output
) -> None:
    """Print changes to envelopes, one per line, until Ctrl-C or the daemon disconnects.

    Prints 'resync' first, and again if earlier changes may have been missed. --output name omits
    that.
    """
    try:
        for event in client.watch_index_kms(store, prefix):
            if isinstance(event, kekd.Resync):
                output.show("", {"kind": "resync"}, ["resync"])
            else:
                output.show(event.index_name, dataclasses.asdict(event), [_format_text(event)])
    except KeyboardInterrupt:  # the normal end of a watch
        click.get_current_context().exit(STOPPED)


@main.command()
@click.argument("index", required=False)
@_file
@dry_run_option
@store_option
@output_option
@pass_client
def create(
    client: kekd.Client,
    index: str | None,
    file: TextIO,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Store the envelope of an index that has none, and print its etag.

    INDEX replaces the name in the file.
    """
    envelope = _read_envelope(file, index)
    etag = client.create_index_kms(store, envelope.index_name, envelope.blob)
    output.show_change(envelope.index_name, "created", etag, etag=etag)


@main.command()
@click.argument("index", required=False, shell_complete=complete_index)
@_file
@if_etag_option
@dry_run_option
@store_option
@output_option
@pass_client
def push(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str | None,
    file: TextIO,
    if_etag: str | None,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Store the envelope of an index, replacing any existing one, and print its etag.

    INDEX replaces the name in the file. The etag in the file is ignored. To replace only the
    envelope that you read, pass its etag as --if-etag.
    """
    envelope = _read_envelope(file, index)
    etag = client.push_index_kms(store, envelope.index_name, envelope.blob, if_etag=if_etag)
    output.show_change(envelope.index_name, "pushed", etag, etag=etag)


@main.command()
@_indexes
@if_etag_option
@yes_option
@dry_run_option
@store_option
@output_option
@click.pass_context
def delete(  # noqa: PLR0913
    context: click.Context,
    /,
    indexes: tuple[str, ...],
    if_etag: str | None,
    store: kekd.StorageConfig | None,
    output: Output,
    *,
    yes: bool,
) -> None:
    """Delete the envelope of each INDEX. Succeeds for an index that has none.

    Asks first if standard input is a terminal. Prints the command that undoes it on standard error,
    if the store keeps a history. If an index fails, the command reports it, deletes the others, and
    exits with the code of the first failure.
    """
    if if_etag is not None and len(indexes) > 1:
        raise click.UsageError("--if-etag needs a single INDEX; give one")
    client = open_client(context)
    if sys.stdin.isatty() and not (yes or output.is_dry_run):
        confirm(f"Delete {_describe(indexes)} in {describe_place(client, store)}?")
    failures: list[kekd.EnvelopeError] = []
    for index in dict.fromkeys(indexes):
        try:
            existed = client.delete_index_kms(store, index, if_etag=if_etag)
        except kekd.EnvelopeError as error:
            if len(indexes) == 1 or is_lost(error):
                raise
            failures.append(error)
            say(f"kekctl: {error}", error=True)
            continue
        text = "deleted" if existed else "nothing to delete"
        output.show_change(
            index,
            "deleted" if existed else "unchanged",
            text if len(indexes) == 1 else f"{index}: {text}",
        )
        if existed and not output.is_dry_run and _has_versions(client, store, index):
            from kekd._cli.output.command_line import command_line  # noqa: PLC0415  (rarely needed)

            undo = command_line(context, "undelete", index, store)
            say(f"kekctl: to undo this: {undo}", error=True)
    if failures:
        context.exit(exit_code(failures[0]))


def _describe(indexes: Sequence[str]) -> str:
    if len(indexes) == 1:
        return f"the envelope of '{printable(indexes[0])}'"
    names = ", ".join(printable(index) for index in indexes[:_MAX_NAMED])
    return f"{len(indexes)} envelopes ({names}{', ...' if len(indexes) > _MAX_NAMED else ''})"


@main.command()
@click.option(
    "--for",
    "seconds",
    type=Duration(0, timeouts.MAX_TIMEOUT),
    default=timeouts.WAIT_TIMEOUT,
    metavar="DURATION",
    help="Give up after this time, such as 45s or 5m; 0 checks once, within --timeout (default:"
    " 30s).",
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


def _read_envelope(file: TextIO, index: str | None) -> EnvelopeJSON:
    # Imported here because reading an envelope of the daemon needs no backup format.
    from kekd._cli.envelope_input import read_envelope  # noqa: PLC0415

    return read_envelope(file, index)


def _has_versions(client: kekd.Client, store: kekd.StorageConfig | None, index: str) -> bool:
    try:
        return any(True for _ in client.list_versions_index_kms(store, index, page_size=1))
    except kekd.EnvelopeError:  # an older daemon, or the caller may not read
        return False


def _format_text(event: kekd.Change) -> str:
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
