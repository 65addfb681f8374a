"""Permission to repeat a read."""

from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit_record import AuditRecord
from kekd_server.access.audited_store import AuditedStore
from kekd_server.access.decision import AccessDecision
from kekd_server.access.request_context import RequestContext
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import StoredRecord


class RepeatGrant:
    """Permission for one principal to get the same answer again, as long as the policy that allowed
    the read is in use and the store has the record that was read.

    Keeps the outcome of the decision but not its request, which would take more memory than the
    answer.
    """

    __slots__ = (
        *("_generation", "_identity", "_is_local", "_name", "_policy", "_rule"),
        *("_store", "_stored"),
    )

    def __init__(
        self,
        policy: AccessPolicy,
        decision: AccessDecision,
        store: AuditedStore,
        name: IndexName,
        stored: StoredRecord,
    ) -> None:
        """`decision` allowed the read that returned `stored`."""
        principal = decision.request.principal
        self._identity, self._is_local = principal.identity, principal.is_local
        self._policy = policy
        self._generation = decision.generation
        self._rule = decision.rule
        self._store = store
        self._name = name
        self._stored = stored

    def repeat(self, request: RequestContext) -> bool:
        """Does to the audit log and the metrics what the read would do again, and returns True. If
        the read must be made again, changes nothing and returns False.
        """
        principal = request.principal
        if (
            self._generation != self._policy.generation
            or principal.identity != self._identity
            or principal.is_local != self._is_local
        ):
            return False
        store = self._store
        decision = AccessDecision(
            request, "read", store.name, self._name.value, self._rule, generation=self._generation
        )
        record = AuditRecord(decision)
        if not store.confirm_read(record, self._name, self._stored):
            return False
        request.on_store_selected(store.name)
        self._policy.count(decision)
        return True
