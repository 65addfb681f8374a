"""The use cases, independent of gRPC and of the kinds of stores."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple, TypeVar

from kekd_schema import Envelope
from kekd_server.access.authorizer import Authorizer
from kekd_server.access.grants.batch_grant import BatchPushGrant, BatchReadGrant
from kekd_server.access.grants.grant import (
    ConditionalDeleteGrant,
    CreateGrant,
    DeleteGrant,
    PushGrant,
    ReadGrant,
)
from kekd_server.access.grants.import_grant import ImportGrant
from kekd_server.access.grants.prefix_grant import ListGrant
from kekd_server.access.grants.protection_grant import DestroyGrant, HoldGrant, ReleaseGrant
from kekd_server.access.grants.repeat_grant import RepeatGrant
from kekd_server.access.grants.watch_grant import Watch, WatchGrant
from kekd_server.access.request_context import RequestContext
from kekd_server.model.envelope_validation import validate_envelope
from kekd_server.model.errors import InvalidEnvelopeError, KekdError
from kekd_server.model.index_name import IndexName
from kekd_server.model.page_token import PageToken
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.version_import import ImportedEnvelope, validate_import
from kekd_server.storage.history.version_listing import VersionListing
from kekd_server.storage.location import Location
from kekd_server.storage.stored_envelope import (
    FindPrepared,
    PreparedEnvelope,
    StoredEnvelope,
    nothing_prepared,
)
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.push import Push

T = TypeVar("T")


class GetResult(NamedTuple):
    stored: StoredEnvelope
    repeat_grant: RepeatGrant | None
    """Permission to repeat the get, if that is possible."""


class BatchGetResult(NamedTuple):
    store_name: str
    results: list[StoredEnvelope | PreparedEnvelope | KekdError]


class BatchPushResult(NamedTuple):
    store_name: str
    results: list[WriteResult | KekdError]


class Page(NamedTuple):
    names: list[IndexName]
    next_token: str
    """Empty after the last page."""


class EnvelopeService:
    """The use cases. Each method gets a grant from the authorizer and acts through it; the service
    itself holds no store.

    Any method can raise the errors of the driver contract, `StoreNotConfiguredError`,
    `AccessDeniedError` and `AuditUnavailableError`.
    """

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def create(
        self,
        request: RequestContext,
        location: Location | None,
        name: IndexName,
        envelope: Envelope,
        *,
        attempt: WriteAttempt | None = None,
    ) -> str:
        """Inserts an envelope where there is none; returns its etag.

        With an `attempt`, the write is applied once, and all its attempts return the same outcome.
        Raises `OutcomeUnknownError` if an earlier attempt may have been applied.
        """
        validate_envelope(envelope)
        grant = self._authorizer.authorize(CreateGrant, request, location, name)
        return await grant.create(envelope, attempt=attempt)

    async def push(
        self,
        request: RequestContext,
        location: Location | None,
        push: Push,
        *,
        attempt: WriteAttempt | None = None,
    ) -> str:
        """Inserts or replaces an envelope, with `if_etag` only the one that it names; returns the
        new etag. `attempt` as for `create`.
        """
        validate_envelope(push.envelope)
        grant = self._authorizer.authorize(PushGrant, request, location, push.name)
        return await grant.push(push.envelope, if_etag=push.if_etag, attempt=attempt)

    async def push_many(
        self,
        request: RequestContext,
        location: Location | None,
        pushes: Sequence[Push | KekdError],
        *,
        attempt: WriteAttempt | None = None,
    ) -> BatchPushResult:
        """Returns for each push, in their order, what `push` returns or raises. An entry that is
        already an error keeps it.
        """
        request.lease.add_entries(len(pushes))
        validated = [_validated(push) for push in pushes]
        # Numbered by position in the request, because the policy may allow other entries at a
        # retry.
        valid = [
            push._replace(attempt=attempt and attempt.entry(place))
            for place, push in enumerate(validated)
            if isinstance(push, Push)
        ]
        names = [push.name for push in valid]
        grant = self._authorizer.authorize_many(BatchPushGrant, request, location, names)
        results = await grant.push_many(valid)
        merged = _fill_in_errors(validated, results)
        return BatchPushResult(grant.store_name, merged)

    async def get(
        self, request: RequestContext, location: Location | None, name: IndexName
    ) -> GetResult:
        grant = self._authorizer.authorize(ReadGrant, request, location, name)
        stored = await grant.get()
        return GetResult(stored, self._authorizer.make_repeatable(grant, stored.record))

    async def get_version(
        self, request: RequestContext, location: Location | None, name: IndexName, version_id: str
    ) -> StoredEnvelope:
        """Raises `VersionNotFoundError` and `CorruptVersionError`."""
        grant = self._authorizer.authorize(ReadGrant, request, location, name)
        return await grant.get_version(version_id)

    async def list_versions(  # noqa: PLR0913
        self,
        request: RequestContext,
        location: Location | None,
        name: IndexName,
        size: int,
        after: str,
        *,
        with_envelopes: bool,
    ) -> VersionListing:
        """Returns a page of the versions of an index, newest first. `after`: the id of the last
        version on the previous page, or empty.
        """
        grant = self._authorizer.authorize(ReadGrant, request, location, name)
        return await grant.list_versions(after, size, with_envelopes=with_envelopes)

    async def restore(  # noqa: PLR0913
        self,
        request: RequestContext,
        location: Location | None,
        name: IndexName,
        version_id: str,
        *,
        if_etag: str | None,
        attempt: WriteAttempt | None = None,
    ) -> str:
        """Pushes the envelope of a version; returns its etag. Raises `VersionNotFoundError` and
        `CorruptVersionError`. `attempt` as for `create`.
        """
        grant = self._authorizer.authorize(PushGrant, request, location, name)
        return await grant.restore(version_id, if_etag=if_etag, attempt=attempt)

    async def undelete(
        self,
        request: RequestContext,
        location: Location | None,
        name: IndexName,
        *,
        attempt: WriteAttempt | None = None,
    ) -> str:
        """Creates the envelope that a deleted index had; returns its etag. Raises
        `NothingToUndeleteError` and `CorruptVersionError`. `attempt` as for `create`.
        """
        grant = self._authorizer.authorize(CreateGrant, request, location, name)
        return await grant.undelete(attempt=attempt)

    async def get_many(
        self,
        request: RequestContext,
        location: Location | None,
        names: Sequence[IndexName | KekdError],
        find_prepared: FindPrepared = nothing_prepared,
    ) -> BatchGetResult:
        """Returns for each name, in their order, what `get` returns or raises, or what was made of
        it. An entry that is already an error keeps it.
        """
        request.lease.add_entries(len(names))
        valid = list(_valid_names(names))
        grant = self._authorizer.authorize_many(BatchReadGrant, request, location, valid)
        return BatchGetResult(
            grant.store_name, _fill_in_errors(names, await grant.get_many(find_prepared))
        )

    def denies_all(
        self,
        request: RequestContext,
        location: Location | None,
        names: Iterable[IndexName | KekdError],
    ) -> bool:
        """Returns whether `get_many` would read none of these."""
        return self._authorizer.denies_all(request, "read", location, _valid_names(names))

    async def delete(
        self,
        request: RequestContext,
        location: Location | None,
        name: IndexName,
        *,
        if_etag: str | None,
        attempt: WriteAttempt | None = None,
    ) -> bool:
        """Removes an envelope, if there is one; returns whether there was. `attempt` as for
        `create`.
        """
        if if_etag is None:
            grant = self._authorizer.authorize(DeleteGrant, request, location, name)
            return await grant.delete(attempt=attempt)
        conditional = self._authorizer.authorize(ConditionalDeleteGrant, request, location, name)
        return await conditional.delete(if_etag=if_etag, attempt=attempt)

    async def import_versions(
        self,
        request: RequestContext,
        location: Location | None,
        name: IndexName,
        versions: Sequence[ImportedEnvelope],
    ) -> int:
        """Adds versions of a backup below those of the index, newest first; returns the number of
        those that it didn't have. Raises `HistoryConflictError` and `HistoryOffError`.
        """
        validate_import(versions)
        grant = self._authorizer.authorize(ImportGrant, request, location, name)
        return len(await grant.import_versions(versions))

    async def hold(
        self, request: RequestContext, location: Location | None, name: IndexName, reason: str
    ) -> None:
        """Protects the envelope of an index and its versions from every change by kekd."""
        await self._authorizer.authorize(HoldGrant, request, location, name).hold(reason)

    async def release(
        self, request: RequestContext, location: Location | None, name: IndexName
    ) -> bool:
        """Ends the protection; returns whether there was one."""
        return await self._authorizer.authorize(ReleaseGrant, request, location, name).release()

    async def destroy(  # noqa: PLR0913
        self,
        request: RequestContext,
        location: Location | None,
        name: IndexName,
        reason: str,
        *,
        if_etag: str | None,
        attempt: WriteAttempt | None = None,
    ) -> Destruction:
        """Removes the envelope of an index and all its versions, which nothing undoes. `attempt` as
        for `create`.
        """
        grant = self._authorizer.authorize(DestroyGrant, request, location, name)
        return await grant.destroy(reason, if_etag=if_etag, attempt=attempt)

    async def list(  # noqa: PLR0913
        self,
        request: RequestContext,
        location: Location | None,
        prefix: str,
        size: int,
        token: str,
        *,
        show_deleted: bool = False,
    ) -> Page:
        """Returns a page of the names that the caller may list and read."""
        grant = self._authorizer.authorize_prefix(ListGrant, request, location, prefix)
        position = PageToken.parse(token, prefix) if token else PageToken.first(prefix)
        # One more than requested, to see whether there is a next page.
        names = await grant.list_names(position, size + 1, show_deleted=show_deleted)
        if len(names) <= size:
            return Page(names, "")
        return Page(names[:size], str(replace(position, after=names[size - 1])))

    @asynccontextmanager
    async def watch(
        self, request: RequestContext, location: Location | None, prefix: str
    ) -> AsyncIterator[Watch]:
        """Watches the names that the caller may watch and read."""
        grant = self._authorizer.authorize_prefix(WatchGrant, request, location, prefix)
        async with grant.watch() as watch:
            yield watch


def _valid_names(names: Iterable[IndexName | KekdError]) -> Iterator[IndexName]:
    return (name for name in names if isinstance(name, IndexName))


def _validated(push: Push | KekdError) -> Push | KekdError:
    try:
        if isinstance(push, Push):
            validate_envelope(push.envelope)
    except InvalidEnvelopeError as error:
        return error
    return push


def _fill_in_errors(
    requested: Sequence[object | KekdError], results: Sequence[T]
) -> list[T | KekdError]:
    """Puts the results in the places of the entries that were valid, between the errors."""
    remaining = iter(results)
    return (
        list(results)
        if len(results) == len(requested)
        else [entry if isinstance(entry, KekdError) else next(remaining) for entry in requested]
    )
