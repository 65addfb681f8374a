"""Answers a get with the bytes of an earlier answer."""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from kekd_server.access.grants.repeat_grant import RepeatGrant
from kekd_server.access.request_context import RequestContext
from kekd_server.model.bounded_cache import BoundedCache, entry_bytes
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import StoredRecord
from kekd_server.storage.stored_envelope import PreparedEnvelope

_MAX_BYTES: Final = 32 * 2**20
"""About 25,000 answers."""
_MAX_REQUEST_BYTES: Final = 1024
"""Nearly every request is shorter. A few longer ones would fill the memory."""

_Key: TypeAlias = tuple[bytes, str]
"""The request, and the identity of its caller."""


class ReadyAnswers:
    """Keeps the answers of gets, with a permission to repeat each.

    An answer is sent again only for the same bytes from the same principal, after the same checks
    of shutdown, identity, certificate and limits that every call passes, and if the permission is
    still valid: the policy is the one that allowed the first get, and the store confirms with its
    own proof that the record is unchanged. The answer is then what the get would return:

    - The name, the store and the choice between them follow from the bytes alone: the daemon's
      stores never change.
    - The decision follows from the principal, the store, the name and the policy.
    - The answer follows from the record and the name of the store.

    The permission audits and counts what the get would audit and count. In every other case, the
    call takes the ordinary path as if there were no answer. Only a get that succeeded leaves one.
    """

    def __init__(self) -> None:
        self._ready = BoundedCache[_Key, ReadyAnswer](max_bytes=_MAX_BYTES)
        self.entries = ReadyEntries()

    def find(self, sent: bytes, identity: str) -> "ReadyAnswer | None":
        """Returns the answer to a request, to be sent if its grant permits it."""
        return self._ready.get((sent, identity))

    def keep(self, sent: bytes, request: RequestContext, grant: RepeatGrant, answer: bytes) -> None:
        """Keeps the answer of a get that `grant` permits to repeat."""
        if len(sent) <= _MAX_REQUEST_BYTES:
            key = (sent, request.principal.identity)
            size = entry_bytes(sent, answer) + grant.size
            self._ready.put(key, ReadyAnswer(grant, answer), size=size)


class ReadyEntries:
    """Keeps the entries of pages and batches, as they are sent. The store that is asked for an
    entry confirms that the record is unchanged, with the proof that a get uses. The entry follows
    from the name and the record.
    """

    def __init__(self) -> None:
        self._ready = BoundedCache[tuple[str, str], PreparedEnvelope](max_bytes=_MAX_BYTES)

    def find(self, store: str, names: Sequence[IndexName]) -> list[PreparedEnvelope | None]:
        """See `FindPrepared`."""
        get = self._ready.get
        return [get((store, name.value)) for name in names]

    def keep(self, store: str, name: str, content: bytes, record: StoredRecord) -> None:
        """Keeps the entry that was made of a record, if the store can confirm that one."""
        if record.proof is not None:
            entry = PreparedEnvelope(content, record.etag, record.proof)
            # The store has the etag and the proof in memory too.
            self._ready.put((store, name), entry, size=entry_bytes(name, content))


class ReadyAnswer(NamedTuple):
    grant: RepeatGrant
    answer: bytes
