"""Commands about KEKs: they are made, opened and wrapped in this process, never in the daemon."""

from pathlib import Path
from typing import Any

import click

import kekd
from kekd._cli.common import (
    FAILED,
    Duration,
    Name,
    Number,
    main,
    output_option,
    prefix_option,
    store_option,
)
from kekd._cli.outcomes import line_of, show_all
from kekd._cli.terminal import say
from kekd._cli.verdict import Judge
from kekd.kek import Opening, Registry, open_all, rotate_all
from kekd.kek.provider import scrub
from kekd.kek.rotation import DEFAULT_JOBS, RotateOptions

_registry = click.option(
    "--registry",
    "registry_file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=["KEKD_REGISTRY", "CYBORGDB_CONFIG_FILE"],
    show_envvar=True,
    required=True,
    metavar="FILE",
    help="YAML with kms.registry, the file of CyborgDB Service.",
)


_every = click.option("--all", "every", is_flag=True, help="Every index of the store.")
_some = click.option(
    "--prefix", type=Name(), metavar="TEXT", help="Every index whose name starts with this."
)
_jobs = click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=DEFAULT_JOBS,
    show_default=True,
    metavar="N",
    help="How many at once.",
)
_max_rate = click.option(
    "--max-rate",
    type=Number(0.001, 1_000_000),
    metavar="N",
    help="Requests to AWS a second, at most.",
)


@main.command()
@click.argument("index")
@click.option("--slot", type=Name(), required=True, metavar="SLOT", help="Slot of the registry.")
@_registry
@store_option
@click.pass_obj
def provision(
    client: kekd.Client,
    index: str,
    slot: str,
    registry_file: Path,
    store: kekd.StorageConfig | None,
) -> None:
    """Make a KEK for INDEX, wrap it under a slot, and store its envelope; print its etag.

    The KEK itself isn't shown: whoever serves the index opens it.
    """
    registry = Registry.from_yaml(registry_file)
    kek, envelope = registry.provision(index, slot, client=client, config_location=store)
    scrub(kek)
    say(envelope.etag)


@main.command()
@click.argument("index", required=False)
@_every
@_some
@click.option("--check", is_flag=True, required=True, help="Tell whether it opens, and no more.")
@_jobs
@_max_rate
@_registry
@store_option
@output_option
@click.pass_obj
def unwrap(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str | None,
    every: bool,
    prefix: str | None,
    check: bool,  # noqa: ARG001  (there is nothing else it could do)
    jobs: int,
    max_rate: float | None,
    registry_file: Path,
    store: kekd.StorageConfig | None,
    output: str,
) -> None:
    """Open the KEK of INDEX, or those of many, to see that they can be. No KEK is shown.

    Indexes of provider none are "unchecked": their callers have the KEKs. The exit code is 0 only
    if none failed.
    """
    _require_one(index, every=every, prefix=prefix)
    registry = Registry.from_yaml(registry_file, max_rate=max_rate)
    if index is None:
        where: Any = {"client": client, "config_location": store}
        outcomes = open_all(registry, prefix=prefix or "", jobs=jobs, **where)
        show_all(outcomes, output, label="opening", always=["opens"])
        return
    envelope = client.get_index_kms(store, index)
    scrub(registry.unwrap(index, envelope))
    if output == "json":
        say(line_of(Opening(index, "opens"), output))
    else:
        say(f"opens, by {envelope.provider} with {envelope.key_id}")


@main.command()
@click.argument("index", required=False)
@_every
@_some
@click.option("--slot", type=Name(), metavar="SLOT", help="Slot to go to. Default: the one it has.")
@click.option("--from-slot", type=Name(), metavar="SLOT", help="Only envelopes of this slot.")
@click.option(
    "--from-store",
    type=Name(),
    metavar="NAME",
    help="Accept KEKs that are bound to this store, before the keystore was moved: what errors"
    " call from_store.",
)
@click.option("--dry-run", is_flag=True, help="Do everything but store.")
@click.option(
    "--keep-version", is_flag=True, help="For a keystore that CyborgDB 0.18 itself reads."
)
@click.option("--force", is_flag=True, help="Also rotate envelopes that are up to date.")
@click.option(
    "--older-than",
    type=Duration(),
    metavar="DURATION",
    help="Also rotate envelopes wrapped longer ago than this: 90d, 12h, 30m or 45s.",
)
@_jobs
@_max_rate
@_registry
@store_option
@output_option
@click.pass_obj
def rotate(  # noqa: PLR0913
    client: kekd.Client,
    *,
    index: str | None,
    every: bool,
    prefix: str | None,
    slot: str | None,
    from_slot: str | None,
    from_store: str | None,
    dry_run: bool,
    keep_version: bool,
    force: bool,
    older_than: float | None,
    jobs: int,
    max_rate: float | None,
    registry_file: Path,
    store: kekd.StorageConfig | None,
    output: str,
) -> None:
    """Wrap the KEK of INDEX anew, or those of many, under a slot as it stands now.

    INDEX is wrapped anew in any case; of many, those that are as their slot would make them now are
    left, unless --force or --older-than says otherwise. One that fails keeps the envelope it has,
    and doesn't stop the others. Stop it when you like: begun again, it does the rest. The exit code
    is 0 only if none failed.
    """
    _require_one(index, every=every, prefix=prefix)
    if index is not None and older_than is not None:
        raise click.UsageError(
            "--older-than is for --all or --prefix: INDEX is wrapped in any case."
        )
    registry = Registry.from_yaml(registry_file, max_rate=max_rate)
    if slot is not None:
        registry.slot(slot)  # now, and not once for each index
    if from_slot is not None and from_slot not in registry.slots:
        warning = f"no slot '{from_slot}' in the registry: only envelopes that name it are rotated"
        say(f"kekctl: {warning}", error=True)
    how = RotateOptions(
        dry_run=dry_run,
        keep_version=keep_version,
        from_store=from_store or "",
        from_slot=from_slot,
        older_than=older_than,
    )
    where: Any = {"client": client, "config_location": store}
    if index is not None:
        say(line_of(registry.rotate(index, slot, **where, **how), output))
        return
    outcomes = rotate_all(
        registry, slot, prefix=prefix or "", jobs=jobs, force=force, **where, **how
    )
    show_all(outcomes, output, label="rotating", always=["rotated", "unchanged"])


@main.command()
@prefix_option
@click.option("--slot", type=Name(), metavar="SLOT", help="Compare with this one instead.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there is any drift.")
@_registry
@store_option
@output_option
@click.pass_obj
def drift(  # noqa: PLR0913
    client: kekd.Client,
    *,
    prefix: str,
    slot: str | None,
    exit_code: bool,
    registry_file: Path,
    store: kekd.StorageConfig | None,
    output: str,
) -> None:
    """List the indexes whose envelope isn't as their slot, or another, would make it now, or whose
    key isn't fit for use.

    A key that is disabled, pending deletion or gone, and one that was rotated since it wrapped, end
    in exit code 1, and so does an index that can't be judged: it is listed with the reason, and
    doesn't stop the others.
    """
    registry = Registry.from_yaml(registry_file)
    if slot is not None:
        registry.slot(slot)
    judge = Judge(registry, slot)
    is_failing = False
    for index, found in client.scan_index_kms(store, prefix):
        verdict = judge.judge(index, found)
        is_failing |= verdict.is_failing or bool(exit_code and verdict.drift)
        if verdict.lines:
            say(verdict.as_json(index) if output == "json" else verdict.as_text(index))
    for line in judge.unseen:
        say(f"kekctl: {line}", error=True)
    if is_failing:
        click.get_current_context().exit(FAILED)


@main.group()
def kms() -> None:
    """Set up what a slot needs in AWS."""


@kms.command("create-secret")
@click.argument("slot")
@_registry
def create_secret(slot: str, registry_file: Path) -> None:
    """Make the secret of SLOT, which is of provider 'aws', and print its ARN."""
    say(Registry.from_yaml(registry_file).create_secret(slot))


def _require_one(index: str | None, *, every: bool, prefix: str | None) -> None:
    if [index is not None, every, prefix is not None].count(True) != 1:
        raise click.UsageError("Say which: INDEX, --all or --prefix.")
