"""Permission to repeat a read."""

from typing import Final

from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit_record import AuditRecord, RepeatedReadLine
from kekd_server.access.audited_store import AuditedStore
from kekd_server.access.repetition import Repetition
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import StoredRecord

_GRANT_BYTES: Final = 200
"""About what the two objects take besides the text of the line."""


class RepeatGrant:
    """Permission for one principal to get the same answer again, as long as the policy that allowed
    the read is in use and the store has the record that was read.

    Keeps the outcome of the decision but not its request, which would take more memory than the
    answer.
    """

    __slots__ = (
        *("_generation", "_identity", "_is_local", "_line", "_name", "_policy"),
        *("_store", "_stored", "store_name"),
    )

    def __init__(
        self,
        policy: AccessPolicy,
        record: AuditRecord,
        store: AuditedStore,
        name: IndexName,
        stored: StoredRecord,
    ) -> None:
        """`record` is that of the read that returned `stored`, which its decision allowed."""
        decision = record.decision
        principal = decision.request.principal
        self._identity, self._is_local = principal.identity, principal.is_local
        self._policy = policy
        self._generation = decision.generation
        self._line = RepeatedReadLine(record)
        self._store = store
        self._name = name
        self._stored = stored
        self.store_name = store.name

    @property
    def size(self) -> int:
        """How many bytes it takes besides what the store keeps."""
        return _GRANT_BYTES + self._line.size

    def repeat(self, repetition: Repetition) -> bool:
        """Does to the audit log and the metrics what the read would do again, and returns True. If
        the read must be made again, changes nothing and returns False.
        """
        principal = repetition.principal
        if (
            self._generation != self._policy.generation
            or principal.identity != self._identity
            or principal.is_local != self._is_local
            or not self._store.repeat_read(self._name, self._stored, self._line, repetition)
        ):
            return False
        self._policy.count("read", "allowed")
        return True
