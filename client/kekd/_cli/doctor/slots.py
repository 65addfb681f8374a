"""Checks that each slot of a registry wraps and unwraps."""

from collections.abc import Iterator
from pathlib import Path

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd.kek import Registry
from kekd.kek.errors import KekError, MissingDependencyError, RegistryError


def check(file: Path, index_name: str, store: str) -> Iterator[Finding]:
    """Wraps a KEK under each slot, bound to the index and store if the slot says so."""
    try:
        registry = Registry.from_yaml(file)
    except RegistryError as error:
        yield from (failure("slots", problem) for problem in error.problems)
        return
    except MissingDependencyError as error:
        yield failure("slots", str(error))
        return
    if not registry.slots:
        yield warning("slots", f"{file} has no slots under kms.registry", "check the file name")
    for name, slot in registry.slots.items():
        check = f"slot {name}"
        try:
            registry.try_slot(name, index_name, store)
        except KekError as error:
            yield failure(check, str(error))
        else:
            yield ok(check, f"{slot.key_id} wraps and unwraps")
