"""An envelope as a store has it."""

from collections.abc import Callable, Sequence
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
    etag: str
    proof: bytes
    """Of the record. See `Driver.confirm`."""


ReadResult: TypeAlias = StoredEnvelope | PreparedEnvelope

FindPrepared: TypeAlias = Callable[[str, Sequence[IndexName]], Sequence[PreparedEnvelope | None]]
"""Gets the name of a store and those of indexes. Returns for each index what was made of it."""


def nothing_prepared(_: str, names: Sequence[IndexName]) -> Sequence[None]:
    return [None] * len(names)
