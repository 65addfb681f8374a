"""Permission to repeat a read."""

from sys import getsizeof
from typing import Final

from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit.audit_record import AuditRecord
from kekd_server.access.audit.audited_store import AuditedStore
from kekd_server.access.repetition import Repetition
from kekd_server.model.index_name import IndexName

_GRANT_BYTES: Final = 250
"""About what it takes with its name and proof, besides the texts."""


class RepeatGrant:
    """Permission for one principal to get the same answer again, as long as the policy that allowed
    the read is in use and the store has the record that was read.

    Keeps the outcome of the decision but not its request, which would take more memory than the
    answer.
    """

    __slots__ = (
        *("_etag", "_generation", "_identity", "_is_local", "_name", "_policy"),
        *("_proof", "_rule", "_store"),
    )

    def __init__(  # noqa: PLR0913
        self,
        policy: AccessPolicy,
        record: AuditRecord,
        store: AuditedStore,
        name: IndexName,
        *,
        etag: str,
        proof: bytes,
    ) -> None:
        """`record` is that of the read, which its decision allowed. `etag` and `proof` are those of
        the record that it returned.
        """
        decision = record.decision
        principal = decision.request.principal
        self._identity, self._is_local = principal.identity, principal.is_local
        self._policy = policy
        self._generation = decision.generation
        self._rule = decision.rule
        self._store = store
        self._name = name
        self._etag = etag
        self._proof = proof

    @property
    def store_name(self) -> str:
        return self._store.name

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return _GRANT_BYTES + sum(map(getsizeof, (self._name.value, self._name.key, self._etag)))

    def repeat(self, repetition: Repetition) -> bool:
        """Does to the audit log and the metrics what the read would do again, and returns True. If
        the read must be made again, changes nothing and returns False.
        """
        principal = repetition.principal
        if (
            self._generation != self._policy.generation
            or principal.identity != self._identity
            or principal.is_local != self._is_local
            or not self._store.repeat_read(
                self._name, self._etag, self._proof, self._rule, repetition
            )
        ):
            return False
        self._policy.count("read", "allowed")
        return True
