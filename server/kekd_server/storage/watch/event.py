"""The events that a subscriber gets."""

from enum import Enum, auto
from typing import NamedTuple

from kekd_server.model.index_name import IndexName


class ChangeKind(Enum):
    CREATED = auto()
    PUSHED = auto()
    RESTORED = auto()
    UNDELETED = auto()
    DELETED = auto()


class Change(NamedTuple):
    kind: ChangeKind
    name: IndexName
    etag: str = ""
    """Empty if the envelope was deleted or can't be read."""
    breaches_hold: bool = False
    """Whether another program made it while the index was held."""


class OwnChange(Change):
    """A noticed change that this daemon made, and that no other change has followed."""

    __slots__ = ()


class WatchEvent(Enum):
    """The events besides changes."""

    HEARTBEAT = auto()
    RESYNC = auto()
