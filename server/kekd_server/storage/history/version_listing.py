"""A page of the versions of one index."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kekd_server.model.errors import KekdError
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.version import Version
from kekd_server.storage.stored_envelope import StoredEnvelope


class VersionListing(NamedTuple):
    store: str
    versions: Sequence[Version]
    """Newest first."""
    envelopes: Mapping[str, StoredEnvelope | KekdError]
    """By version id, if they were requested. A deletion has none."""
    hold: Hold | None
    """The hold on the index, on its first page."""
    has_more: bool
