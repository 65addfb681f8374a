"""An envelope as a store has it."""

from typing import NamedTuple

from kekd_schema import Envelope


class StoredEnvelope(NamedTuple):
    envelope: Envelope
    etag: str
    store: str
    """The name of the store."""
