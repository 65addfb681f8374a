"""Checks each call against the policy, and grants access to a store."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from kekd_common.policy import Method
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit.audited_store import AuditedStore
from kekd_server.access.audit.auditor import Auditor
from kekd_server.access.decision import AccessDecision, make_denial
from kekd_server.access.grants.batch_grant import BatchGrant
from kekd_server.access.grants.grant import Grant, ReadGrant
from kekd_server.access.grants.prefix_grant import PrefixGrant
from kekd_server.access.grants.repeat_grant import RepeatGrant
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import AccessDeniedError, StoreNotConfiguredError
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import StoredRecord
from kekd_server.storage.location import Location
from kekd_server.storage.registry import Stores

_MAX_LOCATION_CHARACTERS: Final = 255

G = TypeVar("G", bound=Grant)
B = TypeVar("B", bound=BatchGrant)
P = TypeVar("P", bound=PrefixGrant)


class Authorizer:
    """Holds the stores, and hands them out inside grants alone.

    Each method selects the store that the request names, and returns a grant of the given type. It
    raises `AccessDeniedError`, and `StoreNotConfiguredError` where the caller may know that.
    """

    def __init__(self, stores: Stores, policy: AccessPolicy, auditor: Auditor) -> None:
        self._stores = stores
        self._policy = policy
        self._auditor = auditor
        self._audited = {store: AuditedStore(store, auditor) for store in stores}

    def authorize(
        self,
        grant_type: type[G],
        request: RequestContext,
        location: Location | None,
        name: IndexName,
    ) -> G:
        store = self._select(request, grant_type.method, location, name.value)
        decision = self._policy.decide(request, grant_type.method, store.name, name.value)
        self._record_denial(decision)
        return grant_type(decision, store, name)

    def make_repeatable(self, grant: ReadGrant, stored: StoredRecord) -> RepeatGrant | None:
        """Returns a permission to repeat the `get` of a grant, which returned `stored`; None if the
        store can't confirm that it is unchanged.
        """
        return grant.make_repeatable(self._policy, stored)

    def authorize_many(
        self,
        grant_type: type[B],
        request: RequestContext,
        location: Location | None,
        names: Sequence[IndexName],
    ) -> B:
        """Decides for each name. The grant covers the allowed ones, even if there are none."""
        store = self._select(request, grant_type.method, location, "")
        indexes = [name.value for name in names]
        decision = self._policy.decide_many(request, grant_type.method, store.name, indexes)
        return grant_type(decision, store, names)

    def authorize_prefix(
        self,
        grant_type: type[P],
        request: RequestContext,
        location: Location | None,
        prefix: str,
    ) -> P:
        store = self._select(request, grant_type.method, location, "")
        decision = self._policy.decide_prefix(request, grant_type.method, store.name, prefix)
        self._record_denial(decision)
        return grant_type(decision, store, prefix, self._policy)

    def denies_all(
        self,
        request: RequestContext,
        method: Method,
        location: Location | None,
        names: Iterable[IndexName],
    ) -> bool:
        """Predicts whether `authorize_many` will grant nothing."""
        try:
            store = self._stores.select(location)
        except StoreNotConfiguredError:
            return True
        indexes = (name.value for name in names)
        return not self._policy.allows_any(request.principal, method, store.name, indexes)

    def _select(
        self, request: RequestContext, method: Method, location: Location | None, index: str
    ) -> AuditedStore:
        """Unknown stores and stores that the caller has no access to raise the same
        `AccessDeniedError`, with the location that the request names, so callers can't enumerate
        stores.
        """
        try:
            store = self._stores.select(location)
        except StoreNotConfiguredError as error:
            named = str(location)
            self._auditor.record_denied(
                self._policy.denied_decision(request, method, named, index), error
            )
            if self._policy.can_access_unconfigured(request.principal, named):
                raise
            raise _denial(request, method, location, index) from None
        request.on_store_selected(store.name)
        if not self._policy.can_access_store(request.principal, store.name):
            decision = self._policy.denied_decision(request, method, store.name, index)
            denial = _denial(request, method, location, index)
            self._auditor.record_denied(decision, denial)
            raise denial
        return self._audited[store]

    def _record_denial(self, decision: AccessDecision) -> None:
        """The grant raises the error."""
        if denial := decision.denial:
            self._auditor.record_denied(decision, denial)


def _denial(
    request: RequestContext, method: Method, location: Location | None, index: str
) -> AccessDeniedError:
    return make_denial(request, method, str(location or "")[:_MAX_LOCATION_CHARACTERS], index)
