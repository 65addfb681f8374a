"""What the daemon tells of itself."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click

import kekd
from kekd._cli.common import main, output_option
from kekd._cli.terminal import say
from kekd._status import apart


@main.command()
@output_option
@click.pass_obj
def status(client: kekd.Client, output: str) -> None:
    """Show the daemon's version, clock, engine, stores and certificates.

    It tells what the daemon knows; `kekctl doctor` tries.
    """
    asked = datetime.now(UTC)
    found = client.status()
    lead = found.clock_skew(asked, datetime.now(UTC))
    if output == "json":
        content = {"address": client.address, **dataclasses.asdict(found)}
        content["clock_lead_seconds"] = lead.total_seconds()
        say(*json.dumps(content, default=moment, indent=2).split("\n"))
        return
    for name, value in _rows(found, lead):
        say(f"{name:<12}{value}")


def moment(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _rows(found: kekd.DaemonStatus, lead: timedelta) -> Iterator[tuple[str, str]]:
    yield "version", found.version
    yield "started_at", moment(found.started_at)
    yield "now", f"{moment(found.now)}, {apart(lead)}"
    yield "engine", found.engine
    yield "workers", str(found.workers)
    for store in found.stores:
        default = " (default)" if store.is_default else ""
        yield "store", f"{store.name}{default}: {store.error_message or 'healthy'}"
    for certificate in found.certificates:
        refused = f"; the renewed one is refused: {certificate.error}" if certificate.error else ""
        expiry = f"expires {moment(certificate.expires_at)}"
        yield "certificate", f"{certificate.file}: {expiry}{refused}"
    for warning in found.warnings:
        yield "warning", warning
    if found.policy_error:
        yield "policy", f"the changed one is refused: {found.policy_error}"
    if found.audit_error:
        yield "audit", f"can't be written: {found.audit_error}"
