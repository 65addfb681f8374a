"""`kekctl status`: shows what the daemon reports about itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import kekd
from kekd._cli.common import main, pass_client
from kekd._cli.output.output import Output, output_option
from kekd._cli.output.times import describe_skew, format_timestamp


@main.command()
@output_option
@pass_client
def status(client: kekd.Client, output: Output) -> None:
    """Show the daemon's version, clock, stores and certificates.

    This is what the daemon reports. To test it, use 'kekctl doctor'.
    """
    sent_at = datetime.now(UTC)
    reported = client.status()
    skew = reported.clock_skew(sent_at, datetime.now(UTC))
    content = {"address": client.address, **dataclasses.asdict(reported)}
    content["clock_skew_seconds"] = skew.total_seconds()
    lines = (f"{name:<12}{value}" for name, value in _rows(reported, skew))
    output.show(client.address, content, lines, indent=2)


def _rows(reported: kekd.DaemonStatus, skew: timedelta) -> Iterator[tuple[str, str]]:
    yield "version", reported.version
    yield "started_at", format_timestamp(reported.started_at)
    yield "now", f"{format_timestamp(reported.now)} ({describe_skew(skew)})"
    yield "engine", reported.engine
    yield "workers", str(reported.workers)
    for store in reported.stores:
        default = " (default)" if store.is_default else ""
        yield "store", f"{store.name}{default}: {store.error_message or 'healthy'}"
        if store.history:
            yield "history", f"{store.name}: {store.history}"
        if store.warning:
            yield "warning", f"{store.name}: {store.warning}"
    for certificate in reported.certificates:
        error = f"; renewed files rejected: {certificate.error}" if certificate.error else ""
        expiry = f"expires {format_timestamp(certificate.expires_at)}"
        yield "certificate", f"{certificate.file}: {expiry}{error}"
    for warning in reported.warnings:
        yield "warning", warning
    if reported.policy_error:
        yield "policy", f"changed policy rejected, previous one in use: {reported.policy_error}"
    if reported.audit_error:
        yield "audit", f"audit log not writable: {reported.audit_error}"
