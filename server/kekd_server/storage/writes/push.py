"""A push of one envelope."""

from typing import NamedTuple

from kekd_schema import Envelope
from kekd_server.model.index_name import IndexName
from kekd_server.storage.writes.attempt import WriteAttempt


class Push(NamedTuple):
    name: IndexName
    envelope: Envelope
    if_etag: str | None
    attempt: WriteAttempt | None = None
    """Of a batch, either every push has one or none has."""
