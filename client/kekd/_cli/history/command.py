"""Commands that show, compare and restore the versions of envelopes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

import kekd
from kekd._cli.common import if_etag_option, main, pass_client, store_option
from kekd._cli.history.difference import compare
from kekd._cli.history.point_in_time import restore_all
from kekd._cli.options.bulk_options import all_option, jobs_option, many_prefix_option, require_one
from kekd._cli.options.index_completion import complete_index
from kekd._cli.output.outcomes import show_all
from kekd._cli.output.output import Output, Row, dry_run_option, output_option
from kekd._cli.output.terminal import say
from kekd._cli.output.times import format_timestamp

_COLUMNS: Final = ("version_id", "event", "time", "caller", "etag", "size")


class _PastTime(click.ParamType):  # type: ignore[type-arg]  # it has no parameter before click 8.4
    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time; write 2026-01-31T12:00Z", param, ctx)
        if time.tzinfo is None:
            self.fail(
                f"{value!r} has no time zone; add Z for UTC, or an offset such as +02:00",
                param,
                ctx,
            )
        if time > datetime.now(UTC):
            self.fail(f"{value!r} is in the future; choose one in the past", param, ctx)
        return time


@main.command()
@click.argument("index", shell_complete=complete_index)
@store_option
@output_option
@pass_client
def history(
    client: kekd.Client, index: str, store: kekd.StorageConfig | None, output: Output
) -> None:
    """Show the versions of INDEX, newest first. The first is its envelope or its deletion.

    If the index is held, the hold is shown on standard error.
    """
    if hold := client.find_hold_index_kms(store, index):
        say(
            f"kekctl: {hold.caller} holds index '{index}' since {format_timestamp(hold.time)}:"
            f" {hold.reason}",
            error=True,
        )
    versions = client.list_versions_index_kms(store, index)
    if not output.show_table(_COLUMNS, map(_row, versions)) and output.is_text:
        say(f"kekctl: index '{index}' has no versions", error=True)


@main.command()
@click.argument("index", shell_complete=complete_index)
@click.argument("version")
@click.argument("other", required=False)
@store_option
@output_option
@pass_client
def diff(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str,
    version: str,
    other: str | None,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Compare VERSION of INDEX with version OTHER, or with its envelope.

    Shows no wrapped KEK, but its length and the start of its SHA-256.
    """
    old = client.get_index_kms(store, index, version_id=version)
    new = client.get_index_kms(store, index, version_id=other)
    if output.is_text:
        say(f"--- {index} version {version}")
        say(f"+++ {index} {f'version {other}' if other else 'now'}")
    for difference in compare(old, new):
        output.show(difference.field, difference.content, difference.lines)


@main.command()
@click.argument("index")
@dry_run_option
@store_option
@output_option
@pass_client
def undelete(
    client: kekd.Client, index: str, store: kekd.StorageConfig | None, output: Output
) -> None:
    """Restore the deleted envelope of INDEX, and print its etag."""
    etag = client.undelete_index_kms(store, index)
    output.show_change(index, "undeleted", etag, etag=etag)


@main.command()
@click.argument("index", required=False, shell_complete=complete_index)
@click.option("--version", metavar="VERSION", help="Restore this version, from 'kekctl history'.")
@if_etag_option
@click.option(
    "--at",
    type=_PastTime(),
    metavar="TIME",
    help="Restore many indexes to their state at this time (ISO 8601, with a time zone).",
)
@all_option
@many_prefix_option
@dry_run_option
@jobs_option
@store_option
@output_option
@pass_client
def restore(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str | None,
    version: str | None,
    if_etag: str | None,
    at: datetime | None,
    every: bool,
    prefix: str | None,
    jobs: int,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Restore a version of INDEX and print its etag, or restore many indexes with --at.

    With --at, deletes indexes that had no envelope at that time, and skips indexes that still have
    the same envelope. If an index fails, its envelope doesn't change and the others continue. After
    an interruption, run the command again to restore the rest. The exit code is 0 only if no index
    failed.
    """
    require_one(index, every=every, prefix=prefix)
    if (index is None) is not (version is None) or (index is None) is (at is None):
        raise click.UsageError("give INDEX with --version, or --at with --all or --prefix")
    if index is not None and version is not None:
        etag = client.restore_index_kms(store, index, version, if_etag=if_etag)
        output.show_change(index, "restored", etag, etag=etag)
    elif at is not None:
        if if_etag is not None:
            raise click.UsageError("--if-etag needs INDEX; omit it")
        outcomes = restore_all(
            client, store, at=at, prefix=prefix or "", jobs=jobs, dry_run=output.is_dry_run
        )
        show_all(outcomes, output, label="restoring", always=_always(dry_run=output.is_dry_run))


def _always(*, dry_run: bool) -> Sequence[str]:
    changes = ["would restore", "would delete"] if dry_run else ["restored", "deleted"]
    return [*changes, "unchanged"]


def _content(version: kekd.EnvelopeVersion) -> dict[str, Any]:
    """Returns a version as JSON values."""
    content = {column: getattr(version, column) for column in _COLUMNS}
    return content | {"time": format_timestamp(version.time)}


def _row(version: kekd.EnvelopeVersion) -> Row:
    content = _content(version)
    return version.version_id, content, list(content.values())
