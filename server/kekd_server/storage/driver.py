"""What a store driver must do. The conformance suite in tests/contract checks each driver."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

from kekd_common.limits import MAX_REQUEST_BYTES
from kekd_server.model.index_name import IndexName, NamePrefix
from kekd_server.model.key_ranges import KeyRanges
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.failures import HistoryFailures
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.totals import HistoryTotals
from kekd_server.storage.history.version import Origin, Version
from kekd_server.storage.history.version_import import ImportedVersion
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.steps import Steps

NameRange: TypeAlias = NamePrefix | KeyRanges
"""Each name's key starts with one of `prefixes`, or equals one if `is_exact`. `name_of` returns the
name of a key in the range."""

HistoryStep: TypeAlias = int | IndexName
"""The number of versions that were removed, or a held index that another program changed."""

MAX_RECORD_BYTES: Final = 2 * MAX_REQUEST_BYTES
"""A longer record isn't an envelope, and isn't read to its end."""

PROBE_BYTES: Final = MAX_REQUEST_BYTES
"""No record is longer than the request that stored it."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    record: bytes = field(repr=False)
    etag: str
    """Opaque; changes whenever the record does."""
    proof: bytes | None = field(default=None, repr=False, compare=False)
    """What `Driver.confirm` needs to find out that it is still the record; None if it can't."""


class WriteResult(NamedTuple):
    etag: str
    """Of the record that is stored now."""
    previous_etag: str | None
    """Of the record that was replaced; None if there was none, or the store doesn't report it."""


ValidateVersion: TypeAlias = Callable[[str, StoredRecord], object]
"""Raises `CorruptVersionError` if the version with this id has a record that must not be stored
again."""


class Driver(Protocol):
    """Keeps one record per index name, and knows nothing about its content.

    `create`, `put`, `restore`, `undelete` and `delete` return their steps (see writes/steps), which
    pause where they wait for a disk or for another write.

    Every method except `get_cached`, `confirm` and `confirm_all` may block. All may be called
    from several threads at once, and other processes may use the same store at the same time. Each
    operation is atomic. Where the store has stable storage, a change is on it when the operation
    ends. Except for `list`, and `destroy` on disk, the cost doesn't depend on the number of
    records.

    A write with an `attempt` is applied at most once for its id, by any process: if an earlier
    attempt was applied, the method returns the result of that one. It raises `OutcomeUnknownError`
    if the attempt is a retry, the record isn't the one that it would leave, and the driver can't
    find out whether an earlier attempt was applied. A driver that no other process writes to may
    set `recognizes_attempts` to false and ignore attempts.

    A write keeps the new record as a version, if the store has a history. It raises
    `HistoryUnavailableError` and changes nothing if the version can't be kept. A write that is
    applied twice keeps one version.

    Every method raises `StoreUnavailableError` if a retry may help, and `StoreMisconfiguredError`
    if it can't. After a `StoreUnavailableError`, a change may have been applied or not.
    `StoreTimeoutError` means that the driver already waited, so that callers don't retry.
    """

    recognizes_attempts: bool
    history_failures: HistoryFailures
    """Since the start: versions that were not kept or removed as they should be."""

    def open(self, *, create: bool = False) -> bool:
        """Opens the keystore, or creates one if there is none and `create` is true. Returns whether
        it created one. Called once, at startup; other methods may be called before it returns.

        Raises `StoreMisconfiguredError` if there is none, as its volume may not be mounted.
        """

    def check(self) -> None:
        """Makes the cheapest request that shows whether the store answers. Never creates a
        keystore in place of one that has disappeared, as that one may come back.
        """

    def check_writes(self) -> None:
        """Raises the error that prevents writes, if it can be found without a write."""

    def find_limitations(self) -> str:
        """Returns what the store doesn't do that kekd needs, and what to do about it; empty if
        nothing is known. Called once, when the store answers; other methods may be called before
        it returns.
        """

    def probe(self) -> None:
        """Writes and removes as many bytes as the longest record has. Leaves no record."""

    def get(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord:
        """Raises `EnvelopeNotFoundError` if the name has no record.

        `bypass_cache`: used by full scans, which would evict everything else. The record stays in
        memory only if there is room.
        """

    def get_cached(self, name: IndexName) -> StoredRecord | None:
        """Returns the result of `get` if it is known without waiting; otherwise None. Never raises
        an error.
        """

    def confirm(self, name: IndexName, proof: bytes) -> bool:
        """Returns whether `get` would now return the record that has this proof. If so, counts like
        `get_cached`; if not, changes nothing. Never waits, and never raises an error.
        """

    def confirm_all(self, names: Sequence[IndexName], proofs: Sequence[bytes | None]) -> list[bool]:
        """Returns for each name what `confirm` would, and False if it has no proof. Each True
        counts like a `get` with `bypass_cache`.
        """

    def create(
        self, name: IndexName, record: bytes, *, origin: Origin, attempt: WriteAttempt | None
    ) -> Steps[str]:
        """Stores the first record of a name and returns its etag. Of concurrent calls, one wins.

        Raises `EnvelopeExistsError` if the name has a record, even a corrupt one.
        """

    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        origin: Origin,
        attempt: WriteAttempt | None,
    ) -> Steps[WriteResult]:
        """Stores a record, and replaces any that is there.

        Raises `EtagMismatchError` if `if_etag` is set, and there is no record or its etag differs.
        """

    def restore(  # noqa: PLR0913
        self,
        name: IndexName,
        version_id: str,
        *,
        validate: ValidateVersion,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> Steps[WriteResult]:
        """Stores the record of a version again. Otherwise like `put`. On a store with locks, no
        destruction comes between the read of the version and the write.

        Raises `VersionNotFoundError`, also for a deletion, and `CorruptVersionError`.
        """

    def undelete(
        self,
        name: IndexName,
        *,
        validate: ValidateVersion,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> Steps[str]:
        """Stores the record of the last version that has one. Otherwise like `create`. On a store
        with locks, no other write comes between the read of the version and the write.

        Raises `NothingToUndeleteError` and `CorruptVersionError`.
        """

    def delete(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> Steps[str | None]:
        """Removes the record and returns the etag that it had; None if there was no record.

        Raises `EtagMismatchError` if `if_etag` is set, and the etag of the record differs.
        """

    def list(
        self,
        names: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,
        show_deleted: bool = False,
    ) -> list[IndexName]:
        """Returns the first `limit` names of the range whose keys come after that of `after`,
        sorted by key. A name that exists from the first page to the last is on exactly one page.

        `show_deleted`: also returns the names without a record that have versions.

        `listing` identifies the listing that the page belongs to. The pages of one listing may come
        from different drivers on the same store.
        """

    def list_versions(self, name: IndexName, *, after: str, limit: int) -> Sequence[Version]:
        """Returns the first `limit` versions after the one with the id `after`, newest first; from
        the newest one if `after` is empty.

        Raises `VersionNotFoundError` if there is no version with that id.
        """

    def get_version(self, name: IndexName, version_id: str) -> StoredRecord:
        """Raises `VersionNotFoundError`, also for a deletion, and `CorruptVersionError`."""

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion]
    ) -> Sequence[Version]:
        """Adds versions of a backup below all others, and returns those that the index didn't have.
        Both are newest first. If the call fails midway, the newest are there, and a repetition adds
        the others.

        Raises `HistoryOffError`, `EnvelopeHeldError`, and `HistoryConflictError` if they don't
        belong below all others.
        """

    def destroy(
        self, name: IndexName, *, if_etag: str | None, digest: Callable[[bytes], str]
    ) -> Destruction:
        """Removes the record and all its versions, then looks for what remains. Returns what it
        removed, with the `digest` of each record. Does nothing if there is nothing, and continues
        where an earlier call failed.

        Raises `EtagMismatchError` if `if_etag` is set, and the etag of the record differs.
        """

    def find_hold(self, name: IndexName) -> Hold | None:
        """Returns the hold on a name, which may have no record."""

    def hold(self, name: IndexName, hold: Hold) -> None:
        """Places a hold, or replaces the one that is there. From then on, every method that would
        change the record, or add or remove a version, raises `EnvelopeHeldError`, in every process.
        """

    def release(self, name: IndexName) -> bool:
        """Removes the hold, and returns whether there was one."""

    def notice_change(self, name: IndexName) -> bool:
        """Adds the version that another program wrote, if the change is not kekd's own. Returns
        whether another program changed the record while it was held.
        """

    def history_totals(self) -> HistoryTotals:
        """Returns the size of the history when `maintain_history` last looked at all of it."""

    def schedule_scan(self) -> None:
        """Makes `maintain_history` look at all of the history soon, as changes were missed. Used if
        the history follows the changes.
        """

    def describe_history(self) -> str:
        """Says where the versions are kept, and how many for how long; empty while nothing is
        known. Never waits.
        """

    def maintain_history(self) -> Iterator[HistoryStep]:
        """Removes the versions that have expired, and adds those that other programs wrote, in
        steps of a few milliseconds. A failure for one index doesn't end it.
        """

    def close(self) -> None:
        """Releases connections and files. No other method is called afterwards."""
