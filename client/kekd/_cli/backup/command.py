"""`kekctl export` and `kekctl import`: backs up envelopes to a file and restores them."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast, get_args

import click

import kekd
from kekd._cli.backup import json_lines
from kekd._cli.backup.history_import import History, HistoryImport
from kekd._cli.backup.json_lines import BackupContent
from kekd._cli.backup.restore import Outcome, RestoreResult, restore
from kekd._cli.backup.version_json import version_content
from kekd._cli.common import main, open_client, prefix_option, store_option
from kekd._cli.errors import BackupError
from kekd._cli.exit_codes import FAILED, STOPPED
from kekd._cli.options.parameters import Name
from kekd._cli.output.json_format import EnvelopeJSON
from kekd._cli.output.output import Output, dry_run_option, output_option
from kekd._cli.output.terminal import say
from kekd._cli.private_file import replace_private

T = TypeVar("T")

_STDIN: Final = Path("-")
_MAX_MEMORY_BYTES: Final = 64 * 1024 * 1024
"""Of a backup from a pipe. A larger one is copied to a temporary file without a name."""


@main.command()
@prefix_option
@click.option(
    "--file",
    "-f",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Output file, written with mode 0600 (default: standard output).",
)
@click.option("--with-history", is_flag=True, help="Also export the versions of each index.")
@store_option
@click.pass_context
def export(
    context: click.Context,
    prefix: str,
    file: Path | None,
    store: kekd.StorageConfig | None,
    *,
    with_history: bool,
) -> None:
    """Back up the envelopes of a store, including their wrapped KEKs, for 'kekctl import'.

    The backup isn't a snapshot: an envelope that changes during the export is stored as before or
    after the change. If an envelope can't be read, the command reports it, exports the others, and
    exits with 1.
    """
    client = open_client(context)
    unread: list[str] = []
    lines = json_lines.lines(
        str(store or _default_store(client)),
        prefix,
        _read_all(client, prefix, store, unread),
        _read_versions(client, prefix, store, unread) if with_history else None,
    )
    if file:
        with replace_private(file) as output:
            output.writelines(lines)
    elif sys.stdout.isatty():
        raise click.UsageError(
            "cannot print wrapped KEKs to a terminal; give --file or redirect the output"
        )
    else:
        sys.stdout.writelines(lines)
    if unread:
        context.exit(FAILED)


@main.command("import")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option(
    "--index",
    "indexes",
    type=Name(),
    multiple=True,
    metavar="NAME",
    help="Restore only this index; repeatable.",
)
@click.option("--overwrite", is_flag=True, help="Replace envelopes that differ.")
@click.option("--without-history", is_flag=True, help="Don't import versions.")
@dry_run_option
@store_option
@output_option
@click.pass_context
def import_(  # noqa: PLR0913  (options)
    context: click.Context,
    file: Path,
    store: kekd.StorageConfig | None,
    indexes: tuple[str, ...],
    output: Output,
    *,
    overwrite: bool,
    without_history: bool,
) -> None:
    """Restore envelopes and their versions from FILE (-: standard input), by 'kekctl export'.

    Checks the whole file before storing anything. Refuses to replace an envelope that differs,
    unless --overwrite is given. Adds versions below those that an index has. If an index fails, the
    others continue. After an interruption, run the command again to restore the rest. The exit code
    is 0 only if no index failed or was refused, and all versions were imported.
    """
    counts: Counter[Outcome] = Counter()
    client = open_client(context)
    history = HistoryImport(client, store)
    with _open_seekable(file) as backup:
        content = json_lines.check(backup)
        _require_indexes(indexes, content)
        envelopes = (
            envelope
            for envelope in _read_again(backup, json_lines.read_envelopes)
            if not indexes or envelope.index_name in indexes
        )
        has_history = bool(content.histories) and not (without_history or output.is_dry_run)
        results = restore(client, store, envelopes, overwrite=overwrite, dry_run=output.is_dry_run)
        withheld: set[str] = set()
        try:
            with closing(results):
                for result in results:
                    counts[result.outcome] += 1
                    _report(result, output)
                    if result.reason:
                        withheld.add(result.index_name)
            if has_history:
                histories = _read_again(backup, json_lines.read_histories)
                history.run(_select(histories, indexes, withheld, history))
        except KeyboardInterrupt:
            context.exit(STOPPED)
        finally:
            if output.is_text:
                _print_summary(counts, output)
            if has_history:
                say(history.summary, error=not output.is_text)
    if counts["failed"] or counts["refused"] or history.has_failed:
        context.exit(FAILED)


@contextmanager
def _open_seekable(file: Path) -> Iterator[BinaryIO]:
    """Opens a file to read it twice. Copies a pipe, which can be read only once."""
    with sys.stdin.buffer if file == _STDIN else file.open("rb") as source:
        if source.seekable():
            yield source
            return
        with tempfile.SpooledTemporaryFile(_MAX_MEMORY_BYTES) as copy:
            shutil.copyfileobj(source, copy)
            copy.seek(0)
            yield cast("BinaryIO", copy)


def _require_indexes(indexes: tuple[str, ...], content: BackupContent) -> None:
    known = content.names | content.histories
    if missing := [name for name in indexes if name not in known]:
        raise BackupError(
            [f"the backup has no index '{name}'; correct --index" for name in missing]
        )


def _read_again(backup: BinaryIO, read: Callable[[BinaryIO], Iterator[T]]) -> Iterator[T]:
    backup.seek(0)
    yield from read(backup)


def _select(
    histories: Iterator[History],
    indexes: tuple[str, ...],
    withheld: set[str],
    history: HistoryImport,
) -> Iterator[History]:
    """Yields the versions of the indexes whose envelope was imported, or is deleted."""
    for name, versions in histories:
        if indexes and name not in indexes:
            continue
        if name in withheld:
            history.skip(len(versions))
        else:
            yield name, versions


def _default_store(client: kekd.Client) -> str:
    for store in client.status().stores:
        if store.is_default:
            return store.name
    raise click.UsageError("no access to the daemon's default store; choose one with --store")


def _read_all(
    client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, unread: list[str]
) -> Iterator[EnvelopeJSON]:
    """Reports envelopes that can't be read, and adds their indexes to `unread`."""
    for name, found in client.scan_index_kms(store, prefix):
        if isinstance(found, kekd.EnvelopeNotFoundError):
            continue  # deleted since it was listed
        if isinstance(found, kekd.EnvelopeError):
            unread.append(name)
            say(f"kekctl: skipped: {found}", error=True)
        else:
            yield EnvelopeJSON(name, found)


def _read_versions(
    client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, unread: list[str]
) -> Iterator[dict[str, Any]]:
    """Reports versions that can't be read, and adds their indexes to `unread`."""
    for name in client.list_index_kms(store, prefix, show_deleted=True):
        for version in client.list_versions_index_kms(store, name, full=True):
            if version.error:
                unread.append(name)
                say(f"kekctl: skipped: {version.error}", error=True)
            else:
                yield version_content(name, version)


def _report(result: RestoreResult, output: Output) -> None:
    if result.reason:
        text = f"{result.outcome}: index '{result.index_name}': {result.reason}"
        say(f"kekctl: {text}", error=True)
    if not output.is_text:
        content = {"index_name": result.index_name, "outcome": output.describe(result.outcome)}
        output.show_outcome(
            result.index_name, content | ({"error": result.reason} if result.reason else {}), ()
        )


def _print_summary(counts: Counter[Outcome], output: Output) -> None:
    if output.is_dry_run:
        say("dry run: nothing was stored")
    for outcome in get_args(Outcome):
        say(f"{output.describe(outcome):<16}{counts[outcome]:>5}")
