"""What a store driver must do. The conformance suite in tests/contract holds each one to it."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

from kekd_common.limits import MAX_REQUEST_BYTES
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.model.key_ranges import KeyRanges
from kekd_server.storage.write_attempt import WriteAttempt

NameRange: TypeAlias = NamePrefix | KeyRanges
"""Has `keys`, which the keys of its names start with or `is_exact`, and `name_of` for each."""

MAX_RECORD_BYTES: Final = 2 * MAX_REQUEST_BYTES
"""A longer record isn't an envelope, and isn't read to its end."""

PROBE_BYTES: Final = MAX_REQUEST_BYTES
"""No record is longer than the request that stored it."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it is in the store."""

    record: bytes = field(repr=False)
    etag: str
    """Opaque; changes whenever the record does."""


class WriteResult(NamedTuple):
    etag: str
    """Of what is stored now."""
    before: str | None
    """The etag of what it replaced; None for nothing, or where the store doesn't tell."""


class Driver(Protocol):
    """Keeps one record per index name. Knows nothing of what is in a record.

    Every method but `get_cached` may block, and all may be called from several threads at once, as
    other processes may call theirs on the same store. Each one is atomic, and a change that was
    answered has reached stable storage, where the store has such. Cost doesn't grow with the number
    of records, but for what `list` says.

    A write with an `attempt` is applied at most once for its id, by whichever process: where an
    earlier attempt was applied, the answer is that one's. Raises `OutcomeUnknownError` where that
    can't be known: if the attempt is a retry, and what it would leave isn't there. A driver whose
    `recognizes_attempts` is false ignores attempts, as no other process writes there.

    Every method raises `StoreUnavailableError` when trying again may help and
    `StoreMisconfiguredError` when it can't; after the former a change may have happened or not.
    `StoreTimeoutError` is for what was waited for in vain already, so that it isn't tried again.
    """

    recognizes_attempts: bool

    def open(self, *, create: bool = False) -> bool:
        """Opens the keystore, and makes one if there is none and `create` is true. Returns whether
        it made one. Called once, at a start; other methods may be called before it returns.

        Raises `StoreMisconfiguredError` if there is none: its volume may not be mounted.
        """

    def check(self) -> None:
        """Asks the store for as little as tells that it answers. It never makes a keystore in the
        place of one that was there, as that may come back.
        """

    def check_writes(self) -> None:
        """Raises what keeps the store from being written, if that is known without a write."""

    def probe(self) -> None:
        """Writes something as long as the longest record, and leaves no record of it."""

    def get(self, name: IndexName, *, once: bool = False) -> StoredRecord:
        """The record of `name`. Raises `EnvelopeNotFoundError` if there is none.

        `once` is for the reader of all there are: what it reads isn't worth keeping in memory.
        """

    def get_cached(self, name: IndexName) -> StoredRecord | None:
        """What `get` would answer with, if that is known without waiting for anything; else None.
        Raises nothing.
        """

    def create(self, name: IndexName, record: bytes, *, attempt: WriteAttempt | None = None) -> str:
        """Stores the record of a name that has none; the etag. Of several at once, one wins.

        Raises `EnvelopeExistsError` if the name has a record, whatever is in it.
        """

    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        attempt: WriteAttempt | None = None,
    ) -> WriteResult:
        """Stores a record in place of any that is there.

        Raises `EtagMismatchError` if `if_etag` isn't None and isn't the etag of the stored record,
        or there is none.
        """

    def delete(
        self, name: IndexName, *, if_etag: str | None, attempt: WriteAttempt | None = None
    ) -> str | None:
        """Removes the record of `name`; the etag it had, or None if there was none.

        Raises `EtagMismatchError` if there is one and `if_etag` is neither None nor its etag.
        """

    def list(
        self, wanted: NameRange, after: IndexName | None, limit: int, *, listing: str
    ) -> list[IndexName]:
        """The first `limit` names of the range whose keys come after that of `after`, sorted by
        key. A name that is there from the first page to the last is on exactly one.

        `listing` is the same for all pages of one listing, and for no other; a page may come to
        another driver on the same store than the one before did.
        """

    def close(self) -> None:
        """Lets go of connections and files. No other method is called afterwards."""
