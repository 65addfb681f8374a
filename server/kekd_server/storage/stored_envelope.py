"""An envelope as a store has it."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from kekd_schema import Envelope
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import StoredRecord


class StoredEnvelope(NamedTuple):
    envelope: Envelope
    etag: str
    store: str
    """The name of the store."""
    record: StoredRecord
    """From which it was decoded."""


class PreparedEnvelope(NamedTuple):
    """What a caller made of an envelope, to be used while its record is unchanged."""

    content: bytes
    record: StoredRecord

    @property
    def etag(self) -> str:
        return self.record.etag


FindPrepared: TypeAlias = Callable[[str, IndexName], PreparedEnvelope | None]
"""Gets the name of a store and of an index."""


def nothing_prepared(_: str, __: IndexName) -> None:
    pass
