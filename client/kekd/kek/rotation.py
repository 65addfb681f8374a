"""The outcomes of rotations."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from kekd._models import KMSBlob
from kekd.errors import EnvelopeError
from kekd.kek.errors import KekError

Outcome: TypeAlias = Literal["rotated", "unchanged", "would rotate"]


@dataclass(frozen=True, slots=True)
class Rotation:
    """The outcome of rotating the KEK of an index."""

    index_name: str
    outcome: Outcome
    envelope: KMSBlob
    """The stored envelope. After a dry run, the one that would be stored."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An index whose rotation, check or restore failed. Its envelope is unchanged."""

    index_name: str
    error: KekError | EnvelopeError


class RotateOptions(TypedDict, total=False):
    """The arguments of `Registry.rotate` that `rotate_all` applies to every index."""

    dry_run: bool
    keep_version: bool
    from_store: str
    from_slot: str | None
    older_than: float | None
