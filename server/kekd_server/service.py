"""What the daemon does, whoever asks and however: no gRPC and no storage API in here."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from kekd_common.policy import Method
from kekd_schema import Envelope
from kekd_server.access.authorizer import Authorizer
from kekd_server.access.decision import Deed
from kekd_server.access.principal import Caller
from kekd_server.model.envelope_validation import validate_envelope
from kekd_server.model.errors import (
    AccessDeniedError,
    InvalidEnvelopeError,
    KekdError,
    StoreNotConfiguredError,
    WatchFellBehindError,
)
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.model.key_ranges import with_prefix
from kekd_server.model.page_token import PageToken
from kekd_server.storage.driver import WriteResult
from kekd_server.storage.location import Location
from kekd_server.storage.push import Push
from kekd_server.storage.registry import Stores
from kekd_server.storage.store import Store, StoredEnvelope
from kekd_server.storage.watch.event import Change, WatchEvent
from kekd_server.storage.watch.subscription import Subscription
from kekd_server.storage.write_attempt import WriteAttempt

_MOST_SHOWN: Final = 255
_SEARCHED: Final = 1000
"""How many names are looked through at a time for those that may be shown."""

Result = TypeVar("Result", StoredEnvelope, WriteResult)


class Found(NamedTuple):
    store: str
    """Its name."""
    results: list[StoredEnvelope | KekdError]
    """Envelopes, or why there is none to give."""


class Pushed(NamedTuple):
    store: str
    """Its name."""
    results: list[WriteResult | KekdError]


class Page(NamedTuple):
    names: list[IndexName]
    next_token: str
    """Empty after the last page."""


class Watch:
    """The changes that a caller may know of."""

    def __init__(
        self,
        subscription: Subscription,
        deed: Deed,
        guard: Authorizer,
        *,
        idle_prefix: NamePrefix | None,
    ) -> None:
        """`idle_prefix`: the prefix asked for, if the caller could see nothing under it."""
        self._subscription = subscription
        self._deed = deed
        self._guard = guard
        self._idle_prefix = idle_prefix

    @property
    def store(self) -> str:
        """Its name."""
        return self._deed.store

    async def next(self, heartbeat: float) -> Change | WatchEvent | None:
        """As a subscription's, `heartbeat` seconds at most between two. Raises `AccessDeniedError`
        when the policy doesn't let the caller watch any more.
        """
        end = time.monotonic() + heartbeat
        while True:
            event = await self._subscription.next(max(0.0, end - time.monotonic()))
            self._guard.again(self._deed)
            self._check_idle()
            if not isinstance(event, Change) or self._guard.shown(self._deed)(event.name.value):
                return event

    def _check_idle(self) -> None:
        """Raises `WatchFellBehindError` if there is something to see by now, in another policy."""
        if self._idle_prefix is None:
            return
        if with_prefix(self._guard.visible_ranges(self._deed), self._idle_prefix).keys:
            raise WatchFellBehindError("the daemon's policy changed")


class EnvelopeService:
    """Each method selects the store, has the guard authorise and record, and acts. Each raises what
    the driver contract raises, `StoreNotConfiguredError`, `AccessDeniedError` and
    `AuditUnavailableError`.
    """

    def __init__(self, stores: Stores, guard: Authorizer) -> None:
        self._stores = stores
        self._guard = guard

    async def create(
        self,
        caller: Caller,
        location: Location | None,
        name: IndexName,
        envelope: Envelope,
        *,
        attempt: WriteAttempt | None = None,
    ) -> str:
        """Strict insert; the etag.

        With an `attempt`, the write is applied once, and each of its attempts gets the outcome of
        that. Raises `OutcomeUnknownError` where an earlier attempt may have been applied.
        """
        validate_envelope(envelope)
        store = self._select(caller, "create", location, name.value)
        deed = self._guard.deed(caller, "create", store.name, name.value)

        async def create() -> str:
            deed.check()
            deed.etag_after = await store.create(
                name, envelope, owner=caller.identity, attempt=attempt
            )
            return deed.etag_after

        return await self._guard.write([deed], create)

    async def push(
        self,
        caller: Caller,
        location: Location | None,
        push: Push,
        *,
        attempt: WriteAttempt | None = None,
    ) -> str:
        """Upsert, conditional if it has an `if_etag`; the new etag. `attempt` as for `create`."""
        validate_envelope(push.envelope)
        store = self._select(caller, "push", location, push.name.value)
        deed = self._guard.deed(caller, "push", store.name, push.name.value)

        async def replace() -> str:
            deed.check()
            deed.etag_after, deed.etag_before = await store.put(
                push.name,
                push.envelope,
                if_etag=push.if_etag,
                owner=caller.identity,
                attempt=attempt,
            )
            return deed.etag_after

        return await self._guard.write([deed], replace)

    async def push_many(
        self,
        caller: Caller,
        location: Location | None,
        pushes: Sequence[Push | KekdError],
        *,
        attempt: WriteAttempt | None = None,
    ) -> Pushed:
        """For each, in their order, what `push` answers with or raises; what can't be pushed in the
        first place stays the failure that it is.
        """
        store = self._select(caller, "push", location, "")
        caller.lease.add_entries(len(pushes))
        checked = [_checked(it) for it in pushes]
        valid = {number: push for number, push in enumerate(checked) if isinstance(push, Push)}
        names = (push.name.value for push in valid.values())
        deeds = self._guard.deeds(caller, "push", store.name, names)

        async def replace() -> list[WriteResult | KekdError]:
            allowed = [
                number for number, deed in zip(valid, deeds, strict=True) if not deed.refusal
            ]
            stored = await store.put_many(
                # Numbered by their positions in the request: a retry may have another policy.
                [
                    valid[number]._replace(attempt=attempt and attempt.entry(number))
                    for number in allowed
                ],
                owner=caller.identity,
                is_abandoned=lambda: caller.is_gone,
            )
            return _merged(deeds, stored)

        results = await self._guard.write(deeds, replace)
        return Pushed(store.name, _placed(checked, results))

    async def get(
        self, caller: Caller, location: Location | None, name: IndexName
    ) -> StoredEnvelope:
        store = self._select(caller, "read", location, name.value)
        deed = self._guard.deed(caller, "read", store.name, name.value)

        async def get() -> StoredEnvelope:
            deed.check()
            stored = await store.get(name, owner=caller.identity)
            deed.etag_after = stored.etag
            return stored

        return await self._guard.read([deed], get)

    async def get_many(
        self, caller: Caller, location: Location | None, names: Sequence[IndexName | KekdError]
    ) -> Found:
        """For each, in their order, what `get` answers with or raises; what can't be a name stays
        the failure that it is.
        """
        store = self._select(caller, "read", location, "")
        caller.lease.add_entries(len(names))
        sound = [it for it in names if isinstance(it, IndexName)]
        deeds = self._guard.deeds(caller, "read", store.name, (it.value for it in sound))

        async def get() -> list[StoredEnvelope | KekdError]:
            let = [name for name, deed in zip(sound, deeds, strict=True) if not deed.refusal]
            return _merged(deeds, await store.get_many(let, owner=caller.identity))

        return Found(store.name, _placed(names, await self._guard.read(deeds, get)))

    def denies_all(
        self, caller: Caller, location: Location | None, names: Iterable[IndexName | KekdError]
    ) -> bool:
        """Whether `get_many` of these reads nothing, so that all can be asked for together."""
        try:
            store = self._stores.select(location)
        except StoreNotConfiguredError:
            return True
        sound = (it.value for it in names if isinstance(it, IndexName))
        return not self._guard.allows_any(caller, "read", store.name, sound)

    async def delete(
        self,
        caller: Caller,
        location: Location | None,
        name: IndexName,
        *,
        if_etag: str | None,
        attempt: WriteAttempt | None = None,
    ) -> bool:
        """Idempotent; whether there was an envelope. `attempt` as for `create`."""
        method: Method = "delete" if if_etag is None else "delete-if-match"
        store = self._select(caller, method, location, name.value)
        deed = self._guard.deed(caller, method, store.name, name.value)

        async def delete() -> bool:
            deed.check()
            deed.etag_before = await store.delete(
                name, if_etag=if_etag, owner=caller.identity, attempt=attempt
            )
            return deed.etag_before is not None

        return await self._guard.write([deed], delete)

    async def list(
        self, caller: Caller, location: Location | None, prefix: str, size: int, token: str
    ) -> Page:
        """Of the names that the caller may list and read."""
        store = self._select(caller, "list", location, "")
        position = PageToken.parse(token, prefix) if token else PageToken.first(prefix)
        wanted = NamePrefix(prefix)
        deed = self._guard.sweep(caller, "list", store.name, prefix)

        async def list_shown() -> list[IndexName]:
            deed.check()
            shown = self._guard.shown(deed)
            keys = with_prefix(self._guard.visible_ranges(deed), wanted)
            names: list[IndexName] = []
            after, asked = position.after, size + 1
            # One more than asked for tells whether there is a next page, of what may be shown.
            while keys.keys and len(names) <= size:
                found = await store.list(
                    keys, after, asked, listing=position.listing, owner=caller.identity
                )
                names += (it for it in found if it.value.startswith(prefix) and shown(it.value))
                if len(found) < asked:
                    break
                after, asked = found[-1], max(asked, _SEARCHED)
            return names

        names = await self._guard.read([deed], list_shown)
        if len(names) <= size:
            return Page(names, "")
        return Page(names[:size], str(replace(position, after=names[size - 1])))

    @asynccontextmanager
    async def watch(
        self, caller: Caller, location: Location | None, prefix: str
    ) -> AsyncIterator[Watch]:
        """Of the names that the caller may watch and read."""
        store = self._select(caller, "watch", location, "")
        wanted = NamePrefix(prefix)
        deed = self._guard.sweep(caller, "watch", store.name, prefix)
        async with self._guard.watched(deed):
            deed.check()
            is_idle = not with_prefix(self._guard.visible_ranges(deed), wanted).keys

            # Looked up at each change: the policy may have been replaced.
            def is_visible(name: str) -> bool:
                return self._guard.shown(deed)(name)

            async with store.watch(wanted, is_visible, is_idle=is_idle) as subscription:
                idle_prefix = wanted if is_idle else None
                yield Watch(subscription, deed, self._guard, idle_prefix=idle_prefix)

    def end_watches(self) -> None:
        """Each says None next."""
        self._stores.end_watches()

    def _select(
        self, caller: Caller, method: Method, location: Location | None, index: str
    ) -> Store:
        """Raises `AccessDeniedError` for a store in which the caller may do nothing as for one that
        isn't there, and by the name that he asked for, so that nobody finds out which there are.
        """
        asked = str(location or "")
        try:
            store = self._stores.select(location)
        except StoreNotConfiguredError as error:
            self._guard.deny(caller, method, asked, index, error)
            if self._guard.can_access_unconfigured(caller, asked):
                raise
        else:
            if self._guard.knows(caller, store.name):
                return store
            self._guard.deny(caller, method, store.name, index)
        denied = AccessDeniedError(caller.identity, method, index)
        denied.store = asked[:_MOST_SHOWN]
        raise denied


def _checked(push: Push | KekdError) -> Push | KekdError:
    try:
        if isinstance(push, Push):
            validate_envelope(push.envelope)
    except InvalidEnvelopeError as error:
        return error
    return push


def _merged(
    deeds: Sequence[Deed], results: Sequence[Result | KekdError]
) -> list[Result | KekdError]:
    """The results of what was done, and why the rest wasn't, in the order of the deeds."""
    left = iter(results)
    merged = [deed.refusal or next(left) for deed in deeds]
    for deed, result in zip(deeds, merged, strict=True):
        if isinstance(result, KekdError):
            deed.failed(result)
        else:
            deed.etag_after = result.etag
            deed.etag_before = getattr(result, "previous_etag", None)
    return merged


def _placed(
    asked: Sequence[object | KekdError], results: Sequence[Result | KekdError]
) -> list[Result | KekdError]:
    """The results of what could be asked for, and in their places the failures of what couldn't."""
    left = iter(results)
    return [it if isinstance(it, KekdError) else next(left) for it in asked]
