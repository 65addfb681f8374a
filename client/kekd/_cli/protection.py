"""Commands that hold, release and destroy the envelope of an index, with its versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

import kekd
from kekd._cli.common import (
    confirm,
    describe_place,
    if_etag_option,
    main,
    open_client,
    pass_client,
    store_option,
    yes_option,
)
from kekd._cli.exit_codes import FAILED
from kekd._cli.options.index_completion import complete_index
from kekd._cli.output.command_line import command_line
from kekd._cli.output.output import Output, dry_run_option, output_option
from kekd._cli.output.terminal import say

_reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="Why. The audit log gets it."
)


@main.command()
@click.argument("index", shell_complete=complete_index)
@_reason_option
@dry_run_option
@store_option
@output_option
@click.pass_context
def hold(
    context: click.Context,
    index: str,
    reason: str,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Protect INDEX: kekd changes neither its envelope nor its versions.

    The index needs no envelope. Other programs can still change it: kekd reports that.
    """
    client = open_client(context)
    client.hold_index_kms(store, index, reason)
    output.show_change(index, "held", "held")
    if not output.is_dry_run:
        undo = command_line(context, "release", index, store)
        say(f"kekctl: to undo this: {undo}", error=True)


@main.command()
@click.argument("index", shell_complete=complete_index)
@dry_run_option
@store_option
@output_option
@pass_client
def release(
    client: kekd.Client, index: str, store: kekd.StorageConfig | None, output: Output
) -> None:
    """End the protection of INDEX. Succeeds if there is none."""
    existed = client.release_index_kms(store, index)
    if existed:
        output.show_change(index, "released", "released")
    else:
        output.show_change(index, "unchanged", "nothing to release")


@main.command()
@click.argument("index", shell_complete=complete_index)
@_reason_option
@if_etag_option
@yes_option
@dry_run_option
@store_option
@output_option
@pass_client
def destroy(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str,
    reason: str,
    if_etag: str | None,
    yes: bool,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Remove the envelope of INDEX and all its versions. Nothing undoes this.

    The data of the index becomes unreadable. To remove only the envelope, use 'kekctl delete'.
    Prints a receipt: what was removed, what is still there and why, and where kekd can't look. The
    exit code is 1 if something is still there.
    """
    if not (yes or output.is_dry_run):
        place = describe_place(client, store)
        confirm(
            f"Destroy the envelope of '{index}' and all its versions in {place}?"
            " Nothing undoes this"
        )
    receipt = client.destroy_index_kms(store, index, reason, if_etag=if_etag)
    outcome = output.describe("destroyed") if receipt.destroyed else "unchanged"
    output.show(
        index if receipt.destroyed else "",
        {"outcome": outcome, **asdict(receipt)},
        _lines(receipt, outcome),
    )
    if receipt.remaining:
        click.get_current_context().exit(FAILED)


def _lines(receipt: kekd.DestructionReceipt, outcome: str) -> Iterator[str]:
    if not receipt.destroyed:
        yield "nothing to destroy"
    for version in receipt.destroyed:
        digest = version.wrapped_kek_sha256 or "none"
        yield f"{outcome}  {version.version_id or '-'}  etag {version.etag}  sha256 {digest}"
    for remaining in receipt.remaining:
        yield f"remains    {remaining.version_id}: {remaining.reason}"
    for place in receipt.unchecked:
        yield f"unchecked  {place}"
