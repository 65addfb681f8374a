"""Commands about KEKs: they are made, opened and wrapped in this process, never in the daemon."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

import kekd
from kekd._cli.group import (
    FAILED,
    STOPPED,
    Name,
    Number,
    main,
    output_option,
    prefix_option,
    printable,
    store_option,
)
from kekd.kek import Failure, Registry, Rotation, rotate_all
from kekd.kek.errors import KekError, ProviderUnavailableError
from kekd.kek.provider import scrub
from kekd.kek.rotation import DEFAULT_JOBS, How

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
    click.echo(envelope.etag)


@main.command()
@click.argument("index")
@click.option("--check", is_flag=True, required=True, help="Tell whether it opens, and no more.")
@_registry
@store_option
@click.pass_obj
def unwrap(
    client: kekd.Client,
    index: str,
    check: bool,  # noqa: ARG001, FBT001  (there is nothing else it could do)
    registry_file: Path,
    store: kekd.StorageConfig | None,
) -> None:
    """Open the KEK of INDEX, to see that it can be."""
    envelope = client.get_index_kms(store, index)
    scrub(Registry.from_yaml(registry_file).unwrap(index, envelope))
    click.echo(f"opens, by {envelope.provider} with {printable(envelope.key_id)}")


@main.command()
@click.argument("index", required=False)
@click.option("--all", "every", is_flag=True, help="Every index of the store.")
@click.option(
    "--prefix", type=Name(), metavar="TEXT", help="Every index whose name starts with this."
)
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
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=DEFAULT_JOBS,
    show_default=True,
    metavar="N",
    help="How many at once.",
)
@click.option(
    "--max-rate",
    type=Number(0.001, 1_000_000),
    metavar="N",
    help="Requests to AWS a second, at most.",
)
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
    jobs: int,
    max_rate: float | None,
    registry_file: Path,
    store: kekd.StorageConfig | None,
    output: str,
) -> None:
    """Wrap the KEK of INDEX anew, or those of many, under a slot as it stands now.

    INDEX is wrapped anew in any case; of many, those that are as their slot would make them now are
    left. One that fails keeps the envelope it has, and doesn't stop the others. Stop it when you
    like: begun again, it does the rest. The exit code is 0 only if none failed.
    """
    if [index is not None, every, prefix is not None].count(True) != 1:
        raise click.UsageError("Say which: INDEX, --all or --prefix.")
    registry = Registry.from_yaml(registry_file, max_rate=max_rate)
    if slot is not None:
        registry.slot(slot)  # now, and not once for each index
    if from_slot is not None and from_slot not in registry.slots:
        warning = f"no slot '{from_slot}' in the registry: only envelopes that name it are rotated"
        click.echo(f"kekctl: {printable(warning)}", err=True)
    how = How(
        dry_run=dry_run, keep_version=keep_version, from_store=from_store or "", from_slot=from_slot
    )
    where: Any = {"client": client, "config_location": store}
    if index is not None:
        click.echo(_line(registry.rotate(index, slot, **where, **how), output))
        return
    outcomes = rotate_all(registry, slot, prefix=prefix or "", jobs=jobs, **where, **how)
    try:
        failed = _show(outcomes, output)
    except KeyboardInterrupt:
        sys.stdout.flush()
        # Those under way may wait long for their turns, and lose nothing if they are cut off.
        os._exit(STOPPED)
    if failed:
        click.get_current_context().exit(FAILED)


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
    """List the indexes whose envelope isn't as their slot, or another, would make it now.

    One that can't be judged is listed with the reason, and doesn't stop the others; then the exit
    code is 1.
    """
    registry = Registry.from_yaml(registry_file)
    if slot is not None:
        registry.slot(slot)
    failing = False
    down: dict[str, KekError] = {}
    for index, found in client.scan_index_kms(store, prefix):
        result = _judged(registry, index, found, slot, down)
        if isinstance(result, Exception):
            failing = True
            told: dict[str, Any] = {"error": str(result)}
            text = f"can't be judged: {result}"
        elif result:
            failing |= exit_code
            told = {"drift": result}
            text = "; ".join(result)
        else:
            continue
        if output == "json":
            click.echo(json.dumps({"index_name": index, **told}))
        else:
            click.echo(f"{printable(index)}: {printable(text)}")
    if failing:
        click.get_current_context().exit(FAILED)


@main.group()
def kms() -> None:
    """Set up what a slot needs in AWS."""


@kms.command("create-secret")
@click.argument("slot")
@_registry
def create_secret(slot: str, registry_file: Path) -> None:
    """Make the secret of SLOT, which is of provider 'aws', and print its ARN."""
    click.echo(Registry.from_yaml(registry_file).create_secret(slot))


def _judged(
    registry: Registry,
    index: str,
    found: kekd.KMSBlob | kekd.EnvelopeError,
    slot: str | None,
    down: dict[str, KekError],
) -> list[str] | KekError | kekd.EnvelopeError:
    """`down` remembers the slots whose AWS can't be reached: asking takes long to fail."""
    if isinstance(found, kekd.EnvelopeError):
        return found
    name = slot or found.kms_name
    if name in down and found.provider != "none":
        return down[name]
    try:
        return registry.drift(index, found, slot)
    except KekError as error:
        if isinstance(error, ProviderUnavailableError):
            down[name] = error
        return error


def _show(outcomes: Iterator[Rotation | Failure], output: str) -> int:
    """Shows them as they come, and at the end counts and the failures; how many failed."""
    counts: Counter[str] = Counter()
    failures: list[Failure] = []
    lines = output == "json" or not sys.stderr.isatty()
    shown: AbstractContextManager[Iterable[Rotation | Failure]] = nullcontext(outcomes)
    if not lines:
        shown = click.progressbar(outcomes, label="rotating", show_pos=True, file=sys.stderr)
    try:
        with shown as each:
            for outcome in each:
                counts[_word(outcome)] += 1
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                if lines:
                    click.echo(_line(outcome, output))
    finally:
        # Also when it is stopped midway.
        if output != "json":
            _sum_up(counts, failures)
    return counts["failed"]


def _sum_up(counts: Counter[str], failures: list[Failure]) -> None:
    for word in ("rotated", "would rotate", "unchanged", "failed"):
        if counts[word] or word != "would rotate":
            click.echo(f"{word:<13}{counts[word]:>8}")
    if failures:
        click.echo("failures:")
    for failure in failures:
        click.echo(f"{printable(failure.index_name)}: {printable(str(failure.error))}")


def _line(outcome: Rotation | Failure, output: str) -> str:
    if output != "json":
        return f"{_word(outcome)} {printable(outcome.index_name)}"
    line = {"index_name": outcome.index_name, "outcome": _word(outcome)}
    error = {"error": str(outcome.error)} if isinstance(outcome, Failure) else {}
    return json.dumps(line | error)


def _word(outcome: Rotation | Failure) -> str:
    return "failed" if isinstance(outcome, Failure) else outcome.outcome
