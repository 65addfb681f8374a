"""What a policy says of each caller, store and method, kept until there is another policy."""

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
from kekd_server.access.principal import Caller
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes

_MAX_RULES_BYTES: Final = 8 * 2**20
_MAX_ACCESS_BYTES: Final = 4 * 2**20
_MAX_RANGES_BYTES: Final = 16 * 2**20
_LOCAL: Final = (Rule(name="local", identities=("*",), methods=("*",)),)
"""Where there is no policy: whoever reaches a local listener may do anything."""


class CallerRules:
    """Of one policy. Only answers about configured stores are kept: what else a request names is of
    its sender's choosing, and there is no end of it.
    """

    def __init__(self, policy: Sequence[Rule] | None) -> None:
        self._policy = policy
        self._rules = BoundedCache[tuple[str, bool, Method, str], tuple[Rule, ...]](
            max_bytes=_MAX_RULES_BYTES
        )
        self._access = BoundedCache[tuple[str, bool, str], bool](max_bytes=_MAX_ACCESS_BYTES)
        self._ranges = BoundedCache[tuple[str, bool, Method, str], Sequence[IndexRange]](
            max_bytes=_MAX_RANGES_BYTES
        )

    def applying(self, caller: Caller, method: Method, store: str) -> tuple[Rule, ...]:
        """The rules that allow it if they cover the index, in a configured store."""
        key = (caller.identity, caller.is_local, method, store)
        rules = self._rules.get(key)
        if rules is None:
            rules = self._applying(caller, method, store)
            size = entry_bytes(caller.identity) + 8 * len(rules)
            self._rules.put(key, rules, size=size)
        return rules

    def can_access(self, caller: Caller, store: str) -> bool:
        """Whether the caller may do anything in a configured store."""
        key = (caller.identity, caller.is_local, store)
        access = self._access.get(key)
        if access is None:
            access = self.can_access_uncached(caller, store)
            self._access.put(key, access, size=entry_bytes(caller.identity))
        return access

    def can_access_uncached(self, caller: Caller, store: str) -> bool:
        """The same of any store, which is not kept."""
        return any(self._applying(caller, method, store) for method in METHODS)

    def visible_ranges(self, caller: Caller, method: Method, store: str) -> Sequence[IndexRange]:
        """Where the indexes are to which the caller may do this, and which the caller may read."""
        key = (caller.identity, caller.is_local, method, store)
        ranges = self._ranges.get(key)
        if ranges is None:
            ranges = common_ranges(
                index_ranges(self.applying(caller, method, store)),
                index_ranges(self.applying(caller, "read", store)),
            )
            size = entry_bytes(caller.identity, *(it.text for it in ranges))
            self._ranges.put(key, ranges, size=size)
        return ranges

    def _applying(self, caller: Caller, method: Method, store: str) -> tuple[Rule, ...]:
        if self._policy is None:
            return _LOCAL if caller.is_local else ()
        return rules_for(self._policy, caller.identity, method, store)
