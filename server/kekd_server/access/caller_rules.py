"""The rules of one policy for each principal, method and store, cached."""

from collections.abc import Sequence
from typing import Final

from kekd_common.policy import (
    METHODS,
    IndexRange,
    Method,
    Rule,
    common_ranges,
    index_ranges,
    rules_for,
)
from kekd_server.access.identity.principal import Principal
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes

_MAX_RULES_BYTES: Final = 8 * 2**20
_MAX_ACCESS_BYTES: Final = 4 * 2**20
_MAX_RANGES_BYTES: Final = 16 * 2**20
_LOCAL: Final = (Rule(name="local", identities=("*",), methods=("*",)),)
"""Applies without a policy: callers on local listeners may do everything."""


class CallerRules:
    """Caches answers about configured stores only. A caller can name any number of other stores."""

    def __init__(self, policy: Sequence[Rule] | None, *, generation: int) -> None:
        """`generation` is the number of the policy, which each decision keeps."""
        self.generation = generation
        self._policy = policy
        self._rules = BoundedCache[tuple[str, bool, Method, str], tuple[Rule, ...]](
            max_bytes=_MAX_RULES_BYTES
        )
        self._access = BoundedCache[tuple[str, bool, str], bool](max_bytes=_MAX_ACCESS_BYTES)
        self._ranges = BoundedCache[tuple[str, bool, Method, str], Sequence[IndexRange]](
            max_bytes=_MAX_RANGES_BYTES
        )

    def rules_for(self, principal: Principal, method: Method, store: str) -> tuple[Rule, ...]:
        """Returns the rules that allow the call if they match its index, in a configured store."""
        key = (principal.identity, principal.is_local, method, store)
        rules = self._rules.get(key)
        if rules is None:
            rules = self._rules_for(principal, method, store)
            size = entry_bytes(principal.identity) + 8 * len(rules)
            self._rules.put(key, rules, size=size)
        return rules

    def can_access_store(self, principal: Principal, store: str) -> bool:
        """Returns whether some rule allows the principal anything in a configured store."""
        key = (principal.identity, principal.is_local, store)
        access = self._access.get(key)
        if access is None:
            access = self.can_access_unconfigured(principal, store)
            self._access.put(key, access, size=entry_bytes(principal.identity))
        return access

    def can_access_unconfigured(self, principal: Principal, store: str) -> bool:
        """Like `can_access_store`, for a store that isn't configured. Not cached, because a caller
        can name any number of them.
        """
        return any(self._rules_for(principal, method, store) for method in METHODS)

    def visible_ranges(
        self, principal: Principal, method: Method, store: str
    ) -> Sequence[IndexRange]:
        """Returns the index ranges that `method` and `read` are both allowed in."""
        key = (principal.identity, principal.is_local, method, store)
        ranges = self._ranges.get(key)
        if ranges is None:
            ranges = common_ranges(
                index_ranges(self.rules_for(principal, method, store)),
                index_ranges(self.rules_for(principal, "read", store)),
            )
            texts = (index_range.text for index_range in ranges)
            self._ranges.put(key, ranges, size=entry_bytes(principal.identity, *texts))
        return ranges

    def _rules_for(self, principal: Principal, method: Method, store: str) -> tuple[Rule, ...]:
        if self._policy is None:
            return _LOCAL if principal.is_local else ()
        return rules_for(self._policy, principal.identity, method, store)
