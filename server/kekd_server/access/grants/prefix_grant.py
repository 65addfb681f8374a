"""Permission to list or watch the indexes with a prefix."""

from collections.abc import Callable
from typing import ClassVar, Final

from kekd_common.policy import Method
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit.audit_record import AuditRecord
from kekd_server.access.audit.audited_store import AuditedStore, StoreReader
from kekd_server.access.decision import AccessDecision
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.model.key_ranges import KeyRanges, with_prefix
from kekd_server.model.page_token import PageToken

_SCAN_SIZE: Final = 1000
"""Names to read at once when the first read didn't find enough visible ones."""


class PrefixGrant:
    """Covers the indexes that the caller may access with `method` and also read, by the policy at
    that moment.
    """

    method: ClassVar[Method]

    def __init__(
        self,
        decision: AccessDecision,
        store: AuditedStore,
        prefix: str,
        policy: AccessPolicy,
    ) -> None:
        """Raises `AccessDeniedError` if the decision denies the call, and only then
        `InvalidIndexNameError` for the prefix.
        """
        decision.require_allowed()
        self._request = decision.request
        self._store = store
        self._prefix = NamePrefix(prefix)
        self._policy = policy
        self._record = AuditRecord(decision)

    def _visibility_filter(self) -> Callable[[str], bool]:
        """Returns a predicate: is this index visible to the caller?"""
        principal, store = self._request.principal, self._store.name
        return self._policy.visibility_filter(principal, self.method, store)

    def _visible_ranges(self) -> KeyRanges:
        """Returns the key ranges outside which the caller can see nothing."""
        principal, store = self._request.principal, self._store.name
        ranges = self._policy.visible_ranges(principal, self.method, store)
        return with_prefix(ranges, self._prefix)


class ListGrant(PrefixGrant):
    method = "list"

    async def list_names(
        self, position: PageToken, limit: int, *, show_deleted: bool
    ) -> list[IndexName]:
        """Returns at least `limit` visible names after `position`, if there are so many."""
        async with self._store.read([self._record]) as store:
            return await self._list_names(store, position, limit, show_deleted=show_deleted)

    async def _list_names(
        self, store: StoreReader, position: PageToken, limit: int, *, show_deleted: bool
    ) -> list[IndexName]:
        request, ranges = self._request, self._visible_ranges()
        prefix, is_visible = self._prefix.value, self._visibility_filter()
        names: list[IndexName] = []
        after, batch_size = position.after, limit
        while ranges.prefixes and len(names) < limit:
            found = await store.list(
                ranges,
                after,
                batch_size,
                listing=position.listing,
                show_deleted=show_deleted,
                owner=request.principal.identity,
                deadline=request.deadline,
            )
            names += (
                name for name in found if name.value.startswith(prefix) and is_visible(name.value)
            )
            if len(found) < batch_size:
                break
            after, batch_size = found[-1], max(batch_size, _SCAN_SIZE)
        return names
