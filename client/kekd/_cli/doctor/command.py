"""The command `kekctl doctor`."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

import kekd
from kekd._cli.common import main, open_client
from kekd._cli.doctor import address, certificate, clock, daemon, records, slots, store
from kekd._cli.doctor.finding import COLORS, Finding, failure, ok, warning
from kekd._cli.exit_codes import FAILED, STOPPED
from kekd._cli.options.global_options import global_options
from kekd._cli.options.parameters import Store
from kekd._cli.output.output import Output, dry_run_option, output_option_without_names


@main.command()
@click.option(
    "--slots",
    "registry_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also test each slot of this CyborgDB Service configuration file.",
)
@click.option(
    "--records",
    type=click.IntRange(0),
    metavar="N",
    help="Read N random records of each store (default: all).",
)
@click.option("--store", type=Store(), metavar="STORE", help="Test only this store (default: all).")
@click.option(
    "--write",
    is_flag=True,
    help="Also test writes to each store, on a scratch index kekd-doctor-..., and destroy it.",
)
@dry_run_option
@output_option_without_names
@click.pass_context
def doctor(  # noqa: PLR0913
    context: click.Context,
    *,
    registry_file: Path | None,
    records: int | None,
    store: kekd.StorageConfig | None,
    write: bool,
    output: Output,
) -> None:
    """Test the daemon, its stores, certificates and clock, and say how to fix problems.

    Reads the records of each store, and writes only with --write. Each line starts with ok, warning
    or failure. The exit code is 1 after a failure, else 0.
    """
    failed = False
    only_store = store or global_options(context).flags.get("store")
    try:
        for finding in _findings(
            context, registry_file, only_store, records, writes=write and not output.is_dry_run
        ):
            failed |= finding.level == "failure"
            color = COLORS[finding.level]
            content = dataclasses.asdict(finding)
            output.show(finding.check, content, [_line(finding)], color=color)
    except KeyboardInterrupt:
        context.exit(STOPPED)
    if failed:
        context.exit(FAILED)


def _findings(
    context: click.Context,
    registry_file: Path | None,
    only_store: kekd.StorageConfig | None,
    record_count: int | None,
    *,
    writes: bool,
) -> Iterator[Finding]:
    client = open_client(context)
    files = global_options(context).values
    yield from address.check(client.address, tls=bool(files.get("ca")))
    if cert := files.get("cert"):
        yield certificate.check_own(Path(cert))
    status = None
    try:
        status, skew = _measure_status(client)
    except kekd.EnvelopeError as error:
        yield failure("daemon", str(error))
    else:
        yield ok("daemon", f"kekd {status.version} answers")
        yield from (warning("daemon's files", text) for text in status.warnings)
        yield clock.check(skew)
        for served in status.certificates:
            yield certificate.check("certificate", served.file, served.expires_at, status.now)
            if served.error:
                yield certificate.rejected(served.error)
        yield from daemon.check(status)
        yield from _stores(client, status, only_store, record_count, writes=writes)
    if registry_file:
        name = status.stores[0].name if status and status.stores else "none"
        yield from slots.check(registry_file, store.scratch_name(), name)


def _measure_status(client: kekd.Client) -> tuple[kekd.DaemonStatus, timedelta]:
    """Returns the status and the clock skew. The first call connects; the second is timed."""
    client.status()
    sent_at = datetime.now(UTC)
    status = client.status()
    return status, status.clock_skew(sent_at, datetime.now(UTC))


def _stores(
    client: kekd.Client,
    status: kekd.DaemonStatus,
    only_store: kekd.StorageConfig | None,
    record_count: int | None,
    *,
    writes: bool,
) -> Iterator[Finding]:
    if not status.stores:
        yield failure(
            "stores",
            "no access to any store: no policy rule allows this caller",
            "ask the daemon's operator to run 'kekctl policy check'",
        )
        return
    chosen: Sequence[kekd.StoreStatus] = status.stores
    if only_store is not None:
        chosen = [
            candidate
            for candidate in chosen
            if kekd.StorageConfig.named(candidate.name) == only_store
        ]
        if not chosen:
            names = ", ".join(candidate.name for candidate in status.stores)
            yield failure(f"store {only_store}", "the daemon has no such store", f"use {names}")
    for chosen_store in chosen:
        yield from _writes(client, chosen_store) if writes else store.check_status(chosen_store)
        yield from records.check(client, chosen_store.name, record_count)


def _writes(client: kekd.Client, chosen_store: kekd.StoreStatus) -> Iterator[Finding]:
    with _deferred_interrupts() as is_interrupted:
        findings = store.check_writes(client, chosen_store, is_interrupted)
    yield from findings
    if is_interrupted():
        raise KeyboardInterrupt


@contextmanager
def _deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Defers Ctrl-C, and yields a function that returns whether it was pressed.

    An interrupted write could still be applied after the clean-up.
    """
    caught: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield lambda: bool(caught)
    finally:
        signal.signal(signal.SIGINT, previous)


def _line(finding: Finding) -> str:
    advice = f"; {finding.advice}" if finding.advice else ""
    return f"{finding.level:<8} {finding.check}: {finding.text + advice}"
