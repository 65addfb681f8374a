"""The policy's answers for the indexes of a batch."""

from collections import Counter
from collections.abc import Sequence

from kekd_common.policy import Method
from kekd_server.access.decision import AccessDecision, make_denial
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import AccessDeniedError


class BatchDecision:
    """Knows which rule allows the call for each index. Makes an `AccessDecision` of each only when
    they are needed: for most batches of ready entries, these objects would take longer than the
    rest.
    """

    __slots__ = ("_generation", "indexes", "method", "request", "rules", "store")

    def __init__(  # noqa: PLR0913
        self,
        request: RequestContext,
        method: Method,
        store: str,
        indexes: Sequence[str],
        rules: Sequence[str | None],
        *,
        generation: int,
    ) -> None:
        """`rules` has for each index the name of the rule that allows the call; None denies it."""
        self.request = request
        self.method: Method = method
        self.store = store
        self.indexes = indexes
        self.rules = rules
        self._generation = generation

    def denial_of(self, index: str) -> AccessDeniedError:
        """Returns the error of an index that is denied."""
        return make_denial(self.request, self.method, self.store, index)

    def decisions(self) -> list[AccessDecision]:
        return [
            AccessDecision(
                *(self.request, self.method, self.store, index, rule), generation=self._generation
            )
            for index, rule in zip(self.indexes, self.rules, strict=True)
        ]

    def outcomes(self) -> Counter[str]:
        """Counts the decisions by their outcome."""
        denied = self.rules.count(None)
        # `+` drops an outcome that no index has.
        return +Counter(allowed=len(self.rules) - denied, denied=denied)
