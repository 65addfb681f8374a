"""An envelope as a store has it."""

from typing import NamedTuple

from kekd_schema import Envelope
from kekd_server.storage.driver import StoredRecord


class StoredEnvelope(NamedTuple):
    envelope: Envelope
    etag: str
    store: str
    """The name of the store."""
    record: StoredRecord
    """From which it was decoded."""
