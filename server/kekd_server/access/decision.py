"""The policy's answer to one question: may this caller call this method on this index?"""

from kekd_common.policy import Method
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import AccessDeniedError


class AccessDecision:
    __slots__ = (
        *("generation", "index", "is_denied", "method", "outcome"),
        *("request", "rule", "store"),
    )

    def __init__(  # noqa: PLR0913
        self,
        request: RequestContext,
        method: Method,
        store: str,
        index: str,
        rule: str | None,
        *,
        generation: int,
    ) -> None:
        """`rule` is the name of the rule that allows the call. None denies it. `generation` is that
        of the policy.
        """
        self.request = request
        self.method = method
        self.store = store
        self.index = index
        self.rule = rule
        self.generation = generation
        # Attributes, because properties take longer.
        self.is_denied = rule is None
        self.outcome = "denied" if rule is None else "allowed"

    @property
    def denial(self) -> AccessDeniedError | None:
        return self._denial() if self.is_denied else None

    def require_allowed(self) -> None:
        """Raises `AccessDeniedError`."""
        if self.is_denied:
            raise self._denial()

    def _denial(self) -> AccessDeniedError:
        return make_denial(self.request, self.method, self.store, self.index)


def make_denial(
    request: RequestContext, method: Method, store: str, index: str
) -> AccessDeniedError:
    denial = AccessDeniedError(request.principal.identity, method, index)
    denial.store = store
    return denial
