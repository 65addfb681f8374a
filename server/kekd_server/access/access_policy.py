"""Decides calls by the current policy."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from kekd_common.policy import IndexRange, Method, Rule, first_match, first_matches
from kekd_server.access.batch_decision import BatchDecision
from kekd_server.access.caller_rules import CallerRules
from kekd_server.access.decision import AccessDecision
from kekd_server.access.identity.principal import Principal
from kekd_server.access.request_context import RequestContext
from kekd_server.observability.metrics import Metrics


class AccessPolicy:
    """Decides by rules that `replace` can change at any time, also in another thread.

    Without a policy, callers on local listeners may do everything, and others nothing.
    """

    def __init__(self, policy: Sequence[Rule] | None, metrics: Metrics) -> None:
        self._rules = CallerRules(policy, generation=0)
        """Replaced in another thread, so a decision reads this once."""
        self._decisions: Counter[tuple[str, str]] = Counter()
        metrics.decisions.bind(self._decisions)

    @property
    def generation(self) -> int:
        """Changes whenever the rules may have changed."""
        return self._rules.generation

    def replace(self, policy: Sequence[Rule] | None) -> None:
        self._rules = CallerRules(policy, generation=self.generation + 1)

    def decide(
        self, request: RequestContext, method: Method, store: str, index: str
    ) -> AccessDecision:
        rules = self._rules
        rule = first_match(rules.rules_for(request.principal, method, store), index)
        return self._decision(request, method, store, index, rule, rules.generation)

    def decide_many(
        self, request: RequestContext, method: Method, store: str, indexes: Sequence[str]
    ) -> BatchDecision:
        rules = self._rules
        matches = first_matches(rules.rules_for(request.principal, method, store), indexes)
        names = [rule.name if rule else None for rule in matches]
        decision = BatchDecision(
            *(request, method, store, indexes, names), generation=rules.generation
        )
        for outcome, number in decision.outcomes().items():
            self.count(method, outcome, number)
        return decision

    def decide_prefix(
        self, request: RequestContext, method: Method, store: str, prefix: str
    ) -> AccessDecision:
        """Decides a list or watch. It is denied if the caller has no rule for the method at all."""
        rules = self._rules
        rule = first_match(rules.rules_for(request.principal, method, store), None)
        return self._decision(request, method, store, f"{prefix}*", rule, rules.generation)

    def reauthorize(self, decision: AccessDecision) -> AccessDecision:
        """Decides again about a list or watch that was allowed. Raises `UnauthenticatedError` if
        the caller's identity has expired.
        """
        request, method, store = decision.request, decision.method, decision.store
        request.principal.require_unexpired()
        rules = self._rules
        if rules.rules_for(request.principal, method, store):
            return decision
        return self._decision(request, method, store, decision.index, None, rules.generation)

    def count(self, method: Method, outcome: str, number: int = 1) -> None:
        """Adds decisions to the metrics."""
        self._decisions[method, outcome] += number

    def denied_decision(
        self, request: RequestContext, method: Method, store: str, index: str
    ) -> AccessDecision:
        """Returns a denied decision, for a call that is denied before its index is checked."""
        return self._decision(request, method, store, index, None, self.generation)

    def allows_any(
        self, principal: Principal, method: Method, store: str, indexes: Iterable[str]
    ) -> bool:
        """Predicts whether one of these calls will be allowed. Doesn't count as a decision."""
        rules = self._rules.rules_for(principal, method, store)
        return any(first_match(rules, index) for index in indexes)

    def visibility_filter(
        self, principal: Principal, method: Method, store: str
    ) -> Callable[[str], bool]:
        """Returns a predicate: may the caller see this index in a list or watch?"""
        rules = self._rules
        to_call = rules.rules_for(principal, method, store)
        to_read = rules.rules_for(principal, "read", store)
        sees_all = all(some and some[0].matches_every_index for some in (to_call, to_read))
        return lambda index: (
            sees_all or bool(first_match(to_call, index) and first_match(to_read, index))
        )

    def visible_ranges(
        self, principal: Principal, method: Method, store: str
    ) -> Sequence[IndexRange]:
        """Returns the index ranges outside which the caller can see nothing."""
        return self._rules.visible_ranges(principal, method, store)

    def can_access_store(self, principal: Principal, store: str) -> bool:
        """Returns whether some rule allows the principal anything in a configured store."""
        return self._rules.can_access_store(principal, store)

    def can_access_unconfigured(self, principal: Principal, store: str) -> bool:
        """Like `can_access_store`, for a store that isn't configured. Not cached, because a caller
        can name any number of them.
        """
        return self._rules.can_access_unconfigured(principal, store)

    def _decision(  # noqa: PLR0913, PLR0917
        self,
        request: RequestContext,
        method: Method,
        store: str,
        index: str,
        rule: Rule | None,
        generation: int,
    ) -> AccessDecision:
        name = rule.name if rule else None
        decision = AccessDecision(request, method, store, index, name, generation=generation)
        self.count(method, decision.outcome)
        return decision
