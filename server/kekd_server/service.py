"""What the daemon does, whoever asks and however: no gRPC and no storage API in here."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import NamedTuple

from kekd_schema import Envelope
from kekd_server import rules
from kekd_server.errors import EnvelopeExistsError, EnvelopeNotFoundError, EtagMismatchError
from kekd_server.names import IndexName, NamePrefix
from kekd_server.pages import PageToken
from kekd_server.storage.location import Location
from kekd_server.storage.store import Store, StoredEnvelope
from kekd_server.stores import Stores


class Page(NamedTuple):
    names: list[IndexName]
    next_token: str
    """Empty after the last page."""


class EnvelopeService:
    """Each method selects the store, then acts; each raises what the driver contract raises, and
    `StoreNotConfiguredError`.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def create(
        self, location: Location | None, name: IndexName, envelope: Envelope, *, retried: bool
    ) -> str:
        """Strict insert; the etag.

        `retried` says that the caller sent this very call before and lost the answer. Then an
        envelope equal to this one is taken for that call's own work, and any other for a rival's.
        """
        rules.check(envelope)
        store = self._stores.select(location)
        try:
            return await store.create(name, envelope)
        except EnvelopeExistsError:
            if retried and (etag := await _etag_if_equal(store, name, envelope)):
                return etag
            raise

    async def push(
        self,
        location: Location | None,
        name: IndexName,
        envelope: Envelope,
        *,
        if_etag: str | None,
        retried: bool,
    ) -> str:
        """Upsert, conditional if `if_etag` is given; the new etag. `retried` as for `create`."""
        rules.check(envelope)
        store = self._stores.select(location)
        try:
            return await store.put(name, envelope, if_etag=if_etag)
        except EtagMismatchError:
            if retried and (etag := await _etag_if_equal(store, name, envelope)):
                return etag
            raise

    def get(self, location: Location | None, name: IndexName) -> Awaitable[StoredEnvelope]:
        return self._stores.select(location).get(name)

    async def delete(
        self, location: Location | None, name: IndexName, *, if_etag: str | None
    ) -> bool:
        """Idempotent; whether there was an envelope."""
        return await self._stores.select(location).delete(name, if_etag=if_etag)

    async def list(self, location: Location | None, prefix: str, size: int, token: str) -> Page:
        store = self._stores.select(location)
        position = PageToken.parse(token, prefix) if token else PageToken.first(prefix)
        # One more than asked for tells whether there is a next page.
        names = await store.list(
            NamePrefix(prefix), position.after, size + 1, listing=position.listing
        )
        if len(names) <= size:
            return Page(names, "")
        return Page(names[:size], str(replace(position, after=names[size - 1])))


async def _etag_if_equal(store: Store, name: IndexName, envelope: Envelope) -> str | None:
    """The etag of the stored envelope, if it is equal to this one, and not before it is durable."""
    try:
        stored = await store.get(name)
        if stored.envelope != envelope:
            return None
        # The first attempt may have been cut short between writing it and syncing it.
        return await store.put(name, envelope, if_etag=stored.etag)
    except (EnvelopeNotFoundError, EtagMismatchError):
        return None
