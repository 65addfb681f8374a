"""Checks that the records of a store can be read."""

import random
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd._models import GetResult, StorageConfig
from kekd.errors import (
    CorruptEnvelopeError,
    EnvelopeError,
    EnvelopeNotFoundError,
    PermissionDeniedError,
)

if TYPE_CHECKING:
    from kekd._client import Client

MAX_NAMED: Final = 20
"""Corrupt records that get a line each. More are only counted."""


def check(client: "Client", store: str, count: int | None) -> Iterator[Finding]:
    """Reads all records that the caller may read, or a random sample of `count`."""
    location = StorageConfig.named(store)
    name = f"records of {store}"
    if count == 0:
        return
    try:
        if count is None:
            yield from _findings(name, store, client.scan_index_kms(location))
        else:
            chosen = sample(client.list_index_kms(location), count)
            yield from _findings(name, store, client.get_many_index_kms(location, chosen))
    except PermissionDeniedError as error:
        yield warning(name, f"not read: {error}", "allow this caller to list and read")
    except EnvelopeError as error:
        yield failure(name, f"reading failed: {error}")


def sample(names: Iterable[str], count: int) -> list[str]:
    """Draws `count` names uniformly, in one pass and in memory for `count`."""
    chosen: list[str] = []
    for number, name in enumerate(names):
        if number < count:
            chosen.append(name)
        elif (place := random.randrange(number + 1)) < count:  # noqa: S311  (no secret)
            chosen[place] = name
    return chosen


def _findings(check: str, store: str, records: Iterable[GetResult]) -> Iterator[Finding]:
    good = corrupt = unreadable = 0
    for name, found in records:
        if isinstance(found, EnvelopeNotFoundError):
            continue  # deleted since it was listed
        if isinstance(found, CorruptEnvelopeError):
            corrupt += 1
            if corrupt <= MAX_NAMED:
                yield _corrupt(check, store, name, found)
        elif isinstance(found, EnvelopeError):
            unreadable += 1
            if unreadable <= MAX_NAMED:
                yield failure(check, f"cannot read index '{name}': {found}")
        else:
            good += 1
    yield _summary(check, good, corrupt, unreadable)


def _corrupt(check: str, store: str, name: str, error: CorruptEnvelopeError) -> Finding:
    command = shlex.join(
        ["kekctl", "import", "BACKUP", "--index", name, "--overwrite", "--store", store]
    )
    return failure(check, str(error), f"copy the record, then restore it: {command}")


def _summary(check: str, good: int, corrupt: int, unreadable: int) -> Finding:
    if corrupt or unreadable:
        return failure(check, f"{corrupt} corrupt, {unreadable} unreadable, {good} intact")
    return ok(check, f"all {good} records read are intact")
