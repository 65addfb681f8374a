"""Tries what an operator would have to."""

import dataclasses
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

import kekd
from kekd._cli.common import FAILED, STOPPED, main, output_option, store_option
from kekd._cli.doctor import address, certificate, clock, daemon, records, slots, store
from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd._cli.terminal import say


@main.command()
@click.option(
    "--slots",
    "registry_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Wrap and unwrap under each slot of this registry, the file of CyborgDB Service.",
)
@click.option(
    "--records",
    type=click.IntRange(0),
    metavar="N",
    help="Read only N records of each store, chosen at random. Default: all.",
)
@store_option
@output_option
@click.pass_context
def doctor(
    context: click.Context,
    registry_file: Path | None,
    records: int | None,
    store: kekd.StorageConfig | None,
    output: str,
) -> None:
    """Try the daemon, its stores, certificates and clock; say what is wrong and what to do.

    Each store, or the one given, is written to, under a name of its own that begins with
    kekd-doctor- and is removed at the end. Then its records are read. A line each is ok, warning
    or failure. The exit code is 1 if there is any failure, and 0 otherwise.
    """
    failed = False
    try:
        for finding in _findings(context, registry_file, store, records):
            failed |= finding.level == "failure"
            say(_json(finding) if output == "json" else _line(finding))
    except KeyboardInterrupt:
        context.exit(STOPPED)
    if failed:
        context.exit(FAILED)


def _findings(
    context: click.Context,
    registry_file: Path | None,
    asked: kekd.StorageConfig | None,
    count: int | None,
) -> Iterator[Finding]:
    client: kekd.Client = context.obj
    files = context.find_root().params
    yield from address.check(client.address, tls=bool(files["ca"]))
    if files["cert"]:
        yield certificate.check_own(Path(files["cert"]))
    status = None
    try:
        status, lead = _asked(client)
    except kekd.EnvelopeError as error:
        yield failure("daemon", str(error))
    else:
        yield ok("daemon", f"kekd {status.version} answers")
        yield from (warning("daemon's files", it) for it in status.warnings)
        yield clock.check(lead)
        for it in status.certificates:
            yield certificate.check("certificate", it.file, it.expires_at, status.now)
            if it.error:
                yield certificate.refused(it.error)
        yield from daemon.check(status)
        yield from _stores(client, status, asked, count)
    if registry_file:
        name = status.stores[0].name if status and status.stores else "none"
        yield from slots.check(registry_file, store.scratch_name(), name)


def _asked(client: kekd.Client) -> tuple[kekd.DaemonStatus, timedelta]:
    """Also how far the daemon's clock is ahead; a second call, as the first has to connect."""
    client.status()
    asked = datetime.now(UTC)
    status = client.status()
    return status, status.clock_skew(asked, datetime.now(UTC))


def _stores(
    client: kekd.Client,
    status: kekd.DaemonStatus,
    asked: kekd.StorageConfig | None,
    count: int | None,
) -> Iterator[Finding]:
    if not status.stores:
        yield failure(
            "stores",
            "the daemon shows this caller none: its policy lets it do nothing",
            "have its operator ask 'kekctl policy check'",
        )
        return
    chosen: Sequence[kekd.StoreStatus] = status.stores
    if asked is not None:
        chosen = [it for it in chosen if kekd.StorageConfig.named(it.name) == asked]
        if not chosen:
            names = ", ".join(it.name for it in status.stores)
            yield failure(f"store {asked}", "the daemon has no such store", f"name one of {names}")
    for it in chosen:
        with _interrupts_put_off() as interrupted:
            found = store.check(client, it, interrupted)
        yield from found
        if interrupted():
            raise KeyboardInterrupt
        yield from records.check(client, it.name, count)


@contextmanager
def _interrupts_put_off() -> Iterator[Callable[[], bool]]:
    """Only notes Ctrl-C, and tells whether it came: a call that is cut off may still be done, after
    what it wrote was cleaned up.
    """
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield lambda: bool(caught)
    finally:
        signal.signal(signal.SIGINT, before)


def _json(finding: Finding) -> str:
    return json.dumps(dataclasses.asdict(finding))


def _line(finding: Finding) -> str:
    advice = f"; {finding.advice}" if finding.advice else ""
    return f"{finding.level:<8} {finding.check}: {finding.text + advice}"
