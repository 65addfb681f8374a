"""Commands that create, unwrap and rewrap KEKs. Only this process sees a KEK, not the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import kekd
from kekd._cli.common import main, pass_client, prefix_option, store_option
from kekd._cli.exit_codes import FAILED
from kekd._cli.options.bulk_options import all_option, jobs_option, many_prefix_option, require_one
from kekd._cli.options.index_completion import complete_index
from kekd._cli.options.parameters import Duration, Name, Number
from kekd._cli.output.drift_report import DriftChecker
from kekd._cli.output.outcomes import show_all, show_outcome
from kekd._cli.output.output import Output, dry_run_option, output_option
from kekd._cli.output.terminal import say
from kekd.kek import Registry, check_unwrap_all, rotate_all
from kekd.kek.provider import scrub
from kekd.kek.rotation import RotateOptions

_registry = click.option(
    "--registry",
    "registry_file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=["KEKD_REGISTRY", "CYBORGDB_CONFIG_FILE"],
    show_envvar=True,
    required=True,
    metavar="FILE",
    help="Configuration file of CyborgDB Service, with kms.registry (YAML).",
)
_max_rate = click.option(
    "--max-rate",
    type=Number(0.001, 1_000_000),
    metavar="N",
    help="Maximum number of AWS requests per second.",
)


class _Age(Duration):
    """A duration with a unit: without one, it could be meant in days."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if not value[-1:].isalpha():
            self.fail(f"{value!r}: no unit; write one such as 90d, 12h or 30m", param, ctx)
        return super().convert(value, param, ctx)


@main.command()
@click.argument("index")
@click.option(
    "--slot", type=Name(), required=True, metavar="SLOT", help="Registry slot to wrap under."
)
@_registry
@dry_run_option
@store_option
@output_option
@pass_client
def provision(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str,
    slot: str,
    registry_file: Path,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Create a KEK for INDEX, store it wrapped under a slot, and print the envelope's etag.

    Never prints the KEK: the programs that use the index unwrap it themselves.
    """
    registry = Registry.from_yaml(registry_file)
    kek, envelope = registry.provision(index, slot, client=client, config_location=store)
    scrub(kek)
    output.show_change(index, "provisioned", envelope.etag, etag=envelope.etag)


@main.command()
@click.argument("index", required=False, shell_complete=complete_index)
@all_option
@many_prefix_option
@click.option("--check", is_flag=True, required=True, help="Only check; never print the KEK.")
@jobs_option
@_max_rate
@_registry
@store_option
@output_option
@pass_client
def unwrap(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str | None,
    every: bool,
    prefix: str | None,
    check: bool,  # noqa: ARG001  (required: makes clear that no KEK is printed)
    jobs: int,
    max_rate: float | None,
    registry_file: Path,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Check that the KEK of INDEX, or the KEKs of many indexes, can be unwrapped.

    Never prints a KEK. Indexes with provider 'none' are "unchecked": only their callers have the
    KEKs. The exit code is 0 only if no index failed.
    """
    require_one(index, every=every, prefix=prefix)
    registry = Registry.from_yaml(registry_file, max_rate=max_rate)
    if index is None:
        where: Any = {"client": client, "config_location": store}
        outcomes = check_unwrap_all(registry, prefix=prefix or "", jobs=jobs, **where)
        show_all(outcomes, output, label="unwrapping", always=["unwraps"])
        return
    envelope = client.get_index_kms(store, index)
    scrub(registry.unwrap(index, envelope))
    content = {"index_name": index, "outcome": "unwraps"}
    output.show(index, content, [f"unwraps with {envelope.provider} key {envelope.key_id}"])


@main.command()
@click.argument("index", required=False, shell_complete=complete_index)
@all_option
@many_prefix_option
@click.option(
    "--slot",
    type=Name(),
    metavar="SLOT",
    help="Slot to wrap under (default: the slot in the envelope).",
)
@click.option("--from-slot", type=Name(), metavar="SLOT", help="Only envelopes of this slot.")
@click.option(
    "--from-store",
    type=Name(),
    metavar="NAME",
    help="Also accept KEKs bound to this store, from before the keystore was moved (from_store in"
    " error messages).",
)
@dry_run_option
@click.option(
    "--keep-version",
    is_flag=True,
    help="Keep the version number, for a keystore that CyborgDB 0.18 itself reads.",
)
@click.option("--force", is_flag=True, help="Also rotate envelopes that are up to date.")
@click.option(
    "--older-than",
    type=_Age(0),
    metavar="DURATION",
    help="Also rotate envelopes wrapped longer ago than this: 90d, 12h, 30m or 45s.",
)
@jobs_option
@_max_rate
@_registry
@store_option
@output_option
@pass_client
def rotate(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str | None,
    every: bool,
    prefix: str | None,
    slot: str | None,
    from_slot: str | None,
    from_store: str | None,
    keep_version: bool,
    force: bool,
    older_than: float | None,
    jobs: int,
    max_rate: float | None,
    registry_file: Path,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """Rewrap the KEK of INDEX, or the KEKs of many indexes, under a slot's current key.

    INDEX is always rewrapped. With --all or --prefix, envelopes that are up to date are skipped
    unless --force or --older-than is given. If an index fails, its envelope doesn't change and the
    others continue. After an interruption, run the command again to rotate the rest. The exit code
    is 0 only if no index failed.
    """
    require_one(index, every=every, prefix=prefix)
    if index is not None and older_than is not None:
        raise click.UsageError(
            "--older-than needs --all or --prefix: INDEX is always rewrapped; omit it"
        )
    registry = Registry.from_yaml(registry_file, max_rate=max_rate)
    if slot is not None:
        registry.slot(slot)  # fail once, not for each index
    if from_slot is not None and from_slot not in registry.slots:
        warning = f"the registry has no slot '{from_slot}': rotating only envelopes that name it"
        say(f"kekctl: warning: {warning}", error=True)
    options = RotateOptions(
        dry_run=output.is_dry_run,
        keep_version=keep_version,
        from_store=from_store or "",
        from_slot=from_slot,
        older_than=older_than,
    )
    where: Any = {"client": client, "config_location": store}
    if index is not None:
        show_outcome(registry.rotate(index, slot, **where, **options), output)
        return
    outcomes = rotate_all(
        registry, slot, prefix=prefix or "", jobs=jobs, force=force, **where, **options
    )
    show_all(outcomes, output, label="rotating", always=["rotated", "unchanged"])


@main.command()
@prefix_option
@click.option(
    "--slot",
    type=Name(),
    metavar="SLOT",
    help="Slot to compare with (default: the slot in the envelope).",
)
@click.option("--exit-code", is_flag=True, help="Also exit with 1 if any envelope differs.")
@_registry
@store_option
@output_option
@pass_client
def drift(  # noqa: PLR0913
    client: kekd.Client,
    *,
    prefix: str,
    slot: str | None,
    exit_code: bool,
    registry_file: Path,
    store: kekd.StorageConfig | None,
    output: Output,
) -> None:
    """List envelopes that differ from their slot, or whose key isn't usable.

    Exits with 1 if a key is disabled, pending deletion, missing, or was rotated after it wrapped a
    KEK, or if an index can't be checked. Such an index is listed with the error, and the others
    continue.
    """
    registry = Registry.from_yaml(registry_file)
    if slot is not None:
        registry.slot(slot)
    checker = DriftChecker(registry, slot)
    is_failing = False
    for index, found in client.scan_index_kms(store, prefix):
        report = checker.check(index, found)
        is_failing |= report.is_failing or bool(exit_code and report.drift)
        if report.lines:
            output.show(index, report.as_content(index), [report.as_text(index)])
    for line in checker.missing_permissions:
        say(f"kekctl: {line}", error=True)
    if is_failing:
        click.get_current_context().exit(FAILED)


@main.group()
def kms() -> None:
    """Manage the AWS resources of slots."""


@kms.command("create-secret")
@click.argument("slot")
@_registry
@dry_run_option
@output_option
def create_secret(slot: str, registry_file: Path, output: Output) -> None:
    """Create the AWS secret of SLOT (provider 'aws'), and print its ARN."""
    arn = Registry.from_yaml(registry_file).create_secret(slot, dry_run=output.is_dry_run)
    output.show_change(slot, "created", arn, key="slot", arn=arn)
