"""Envelopes to a file and back."""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, get_args

import click

import kekd
from kekd._cli.backup import json_lines
from kekd._cli.backup.json_lines import BackupError
from kekd._cli.backup.restore import Outcome, Restored, restore
from kekd._cli.common import FAILED, STOPPED, Name, main, prefix_option, store_option
from kekd._cli.json_format import EnvelopeJSON
from kekd._cli.terminal import say


@main.command()
@prefix_option
@click.option(
    "--file",
    "-f",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write there, with mode 0600, in place of what is there. Default: standard output.",
)
@store_option
@click.pass_context
def export(
    context: click.Context, prefix: str, file: Path | None, store: kekd.StorageConfig | None
) -> None:
    """Write the envelopes of a store, a line each, for 'kekctl import'.

    They have their wrapped keys. It is no snapshot: what is changed meanwhile is there as before or
    after. An envelope that can't be read is named and left out; then the exit code is 1.
    """
    client: kekd.Client = context.obj
    unread: list[str] = []
    lines = json_lines.lines(
        str(store or _default(client)), prefix, _documents(client, prefix, store, unread)
    )
    if file:
        with _private(file) as written:
            written.writelines(lines)
    elif sys.stdout.isatty():
        raise click.UsageError("Wrapped keys are not for a screen: give --file, or redirect it.")
    else:
        sys.stdout.writelines(lines)
    if unread:
        context.exit(FAILED)


@main.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--index",
    "indexes",
    type=Name(),
    multiple=True,
    metavar="NAME",
    help="Store only the envelope of this index; repeatable.",
)
@click.option("--overwrite", is_flag=True, help="Replace envelopes that differ.")
@click.option("--dry-run", is_flag=True, help="Do everything but store.")
@store_option
@click.pass_context
def import_(  # noqa: PLR0913  (options)
    context: click.Context,
    file: Path,
    store: kekd.StorageConfig | None,
    indexes: tuple[str, ...],
    *,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Store the envelopes of a FILE of 'kekctl export'.

    The whole file is checked before anything is stored. An index that has another envelope is
    refused, unless --overwrite is given. One that fails doesn't stop the others. Stop it when you
    like: begun again, it does the rest. The exit code is 0 only if none failed or was refused.
    """
    counts: Counter[Outcome] = Counter()
    with file.open("rb") as backup:
        if not backup.seekable():
            raise click.UsageError("FILE is read twice, to check it first: give one on a disk.")
        names = json_lines.check(backup)
        if missing := [name for name in indexes if name not in names]:
            raise BackupError([f"the backup has no index '{name}'" for name in missing])
        backup.seek(0)
        documents = (
            it for it in json_lines.documents(backup) if not indexes or it.index_name in indexes
        )
        restored = restore(context.obj, store, documents, overwrite=overwrite, dry_run=dry_run)
        try:
            with closing(restored):
                for it in restored:
                    counts[it.outcome] += 1
                    _tell(it)
        except KeyboardInterrupt:
            context.exit(STOPPED)
        finally:
            _sum_up(counts, dry_run=dry_run)
    if counts["failed"] or counts["refused"]:
        context.exit(FAILED)


def _default(client: kekd.Client) -> str:
    for it in client.status().stores:
        if it.is_default:
            return it.name
    raise click.UsageError("The daemon shows you no default store: name another with --store.")


def _documents(
    client: kekd.Client, prefix: str, store: kekd.StorageConfig | None, unread: list[str]
) -> Iterator[EnvelopeJSON]:
    """Names those that can't be read, and adds them to `unread`."""
    for name, found in client.scan_index_kms(store, prefix):
        if isinstance(found, kekd.EnvelopeNotFoundError):
            continue  # it was deleted since it was listed
        if isinstance(found, kekd.EnvelopeError):
            unread.append(name)
            say(f"kekctl: left out: {found}", error=True)
        else:
            yield EnvelopeJSON(name, found)


@contextmanager
def _private(path: Path) -> Iterator[IO[str]]:
    """A file for its owner alone, which takes the place of `path` once it is whole and durable."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise click.UsageError(f"{path} is no file.")
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                yield file.file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror}") from None


def _tell(restored: Restored) -> None:
    if restored.reason:
        text = f"{restored.outcome}: index '{restored.index_name}': {restored.reason}"
        say(f"kekctl: {text}", error=True)


def _sum_up(counts: Counter[Outcome], *, dry_run: bool) -> None:
    if dry_run:
        say("dry run: nothing was stored")
    for outcome in get_args(Outcome):
        say(f"{outcome:<13}{counts[outcome]:>8}")
