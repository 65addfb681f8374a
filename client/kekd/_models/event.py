"""The events of a watch."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

ChangeKind: TypeAlias = Literal["created", "pushed", "restored", "undeleted", "deleted"]


@dataclass(frozen=True, slots=True)
class Change:
    """An envelope was created, pushed, restored, undeleted or deleted.

    A watch may report a change twice. It may merge several changes to one envelope into the last.
    """

    index_name: str
    kind: ChangeKind
    """Writes by programs other than kekd are reported as `pushed`."""
    etag: str
    """Etag of the envelope after the change. Empty if there is none or it is corrupt."""
    breaches_hold: bool = False
    """Whether another program than kekd made the change although the index is held."""


@dataclass(frozen=True, slots=True)
class Resync:
    """Changes may have been missed: read the envelopes that you hold again.

    The watch reports all later changes. Every watch starts with a `Resync`.
    """


Event: TypeAlias = Change | Resync
