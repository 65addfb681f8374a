"""What a watcher is told."""

from enum import Enum, auto
from typing import NamedTuple

from kekd_server.model.index_name import IndexName


class ChangeKind(Enum):
    CREATED = auto()
    PUSHED = auto()
    DELETED = auto()


class Change(NamedTuple):
    kind: ChangeKind
    name: IndexName
    etag: str = ""
    """Empty of a deleted one, and where the envelope can't be read."""


class WatchEvent(Enum):
    """What a watcher is told besides changes."""

    HEARTBEAT = auto()
    RESYNC = auto()
