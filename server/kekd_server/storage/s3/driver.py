"""Envelopes in an S3 bucket, or in any store that speaks S3 with conditional writes.

[PREFIX/]_catalog/config/<key>    the records, where CyborgDB 0.18 keeps them
[PREFIX/]_kekd/keystore           the marker of a keystore (see `S3Keystore`)
[PREFIX/]_kekd/history/<key>/     the versions of a record (see `KeptVersions`)
[PREFIX/]_kekd/holds/<key>        the hold on a record (see `S3Holds`)
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Final, TypeVar

from kekd_server.model.errors import (
    EnvelopeNotFoundError,
    NoKeystoreError,
    OutcomeUnknownError,
    StoreMisconfiguredError,
    StoreUnavailableError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import (
    MAX_RECORD_BYTES,
    HistoryStep,
    NameRange,
    StoredRecord,
    ValidateVersion,
    WriteResult,
)
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.retention import DEFAULT_RETENTION, Retention
from kekd_server.storage.history.totals import HistoryTotals
from kekd_server.storage.history.version import Origin, Version, VersionEvent
from kekd_server.storage.history.version_import import ImportedVersion
from kekd_server.storage.history.version_page import last_with_record
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client
from kekd_server.storage.s3.conditions import S3ConditionCheck
from kekd_server.storage.s3.errors import RequestError, translate_errors
from kekd_server.storage.s3.history.destruction import S3Destruction
from kekd_server.storage.s3.history.history import S3History
from kekd_server.storage.s3.history.holds import S3Holds
from kekd_server.storage.s3.history.versioning import Versioning
from kekd_server.storage.s3.keystore import S3Keystore
from kekd_server.storage.s3.listing import ListedObject
from kekd_server.storage.s3.names import S3Names
from kekd_server.storage.s3.object import S3Object
from kekd_server.storage.s3.watch.log_writer import S3LogWriter
from kekd_server.storage.s3.write import S3Write
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.steps import without_pauses

T = TypeVar("T")

_DELETION_AND_LAST: Final = 2
_MODIFIED_FORMAT: Final = "%Y-%m-%dT%H:%M:%S"


class S3Driver:
    """A bucket that any number of daemons and CyborgDB may share. The driver keeps no state of it.

    Every request that writes is conditional (If-None-Match or If-Match), even for unconditional
    calls. S3 decides, so one of several daemons wins
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). CyborgDB writes
    without a condition: its create or push can replace a record that was written between its check
    and its write.
    """

    recognizes_attempts = True

    def __init__(
        self,
        client: S3Client,
        location: S3Location,
        log_writer: S3LogWriter | None = None,
        retention: Retention = DEFAULT_RETENTION,
        *,
        hold_check_interval: float = 0.0,
    ) -> None:
        """With a `log_writer`, other daemons soon notice what the driver writes.
        `hold_check_interval`: seconds after which it looks for changes to held indexes.
        """
        self._s3 = client
        self._log_writer = log_writer
        self._folder = location.key("_catalog/config/")
        self._location = location
        self._keystore = S3Keystore(location)
        self._holds = S3Holds(client, location)
        self._history = S3History(client, location, retention, self._holds)
        self.history_failures = self._history.failures
        self._names = S3Names(client, location)
        self._hold_check_interval = hold_check_interval
        self._next_hold_check = 0.0
        self._may_create = False
        self._may_be_missing = False
        """Whether there may be no keystore, so that a missing envelope proves nothing."""

    def open(self, *, create: bool = False) -> bool:
        self._may_create, self._may_be_missing = create, True
        try:
            with self.translate_errors():
                return self._find_keystore()
        except NoKeystoreError:
            raise
        except StoreMisconfiguredError as error:
            # Credentials, permissions and buckets may be added later; until then, `check` fails.
            raise StoreUnavailableError(str(error)) from error

    def check(self) -> None:
        """Gets the object that marks a keystore."""
        with self.translate_errors():
            self._find_keystore()

    def check_writes(self) -> None:
        """Never fails: only a write shows whether writes succeed."""

    def find_limitations(self) -> str:
        with self.translate_errors():
            self._require_keystore()
            ignored = S3ConditionCheck(self._s3, self._location).run()
            self._history.versioning.find()
        return "; ".join(
            filter(None, (self._describe_conditions(ignored), self._describe_versioning()))
        )

    def _describe_conditions(self, ignored: Sequence[str]) -> str:
        if not ignored:
            return ""
        return (
            f"the S3 server ({self._s3.endpoint.url}) does not honour {', '.join(ignored)}:"
            " simultaneous writes can lose envelopes; run one daemon and one rotator, enable"
            " versioning of the bucket, and use another server"
        )

    def _describe_versioning(self) -> str:
        if not self._history.versioning.refusal:
            return ""
        return (
            "kekd cannot find out whether the bucket has versioning, and keeps the history of"
            f" envelopes itself: S3 answered {self._history.versioning.refusal}; allow the daemon"
            " s3:GetBucketVersioning, if the server has it"
        )

    def probe(self) -> None:
        with self.translate_errors():
            self._keystore.mark(self._s3)

    def get(self, name: IndexName, *, bypass_cache: bool = False) -> StoredRecord:  # noqa: ARG002
        with self.translate_errors():
            stored = self._s3.find_object(self._key(name), MAX_RECORD_BYTES)
            if stored is None:
                self._require_keystore()
                raise EnvelopeNotFoundError(name.value)
        return StoredRecord(stored.content, stored.etag)

    def get_cached(self, name: IndexName) -> StoredRecord | None:  # noqa: ARG002
        return None

    def confirm(self, name: IndexName, proof: bytes) -> bool:  # noqa: ARG002
        return False

    def confirm_all(
        self,
        names: Sequence[IndexName],
        proofs: Sequence[bytes | None],  # noqa: ARG002
    ) -> list[bool]:
        return [False] * len(names)

    @without_pauses
    def create(
        self,
        name: IndexName,
        record: bytes,
        *,
        origin: Origin,
        attempt: WriteAttempt | None,
    ) -> str:
        return self._write(name, attempt, origin, lambda write: write.create(record))

    @without_pauses
    def put(
        self,
        name: IndexName,
        record: bytes,
        *,
        if_etag: str | None,
        origin: Origin,
        attempt: WriteAttempt | None,
    ) -> WriteResult:
        return self._write(name, attempt, origin, lambda write: write.put(record, if_etag))

    @without_pauses
    def restore(  # noqa: PLR0913
        self,
        name: IndexName,
        version_id: str,
        *,
        validate: ValidateVersion,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> WriteResult:
        stored = self.get_version(name, version_id)
        validate(version_id, stored)
        origin = Origin(VersionEvent.RESTORED, caller)
        return self._write(name, attempt, origin, lambda write: write.put(stored.record, if_etag))

    @without_pauses
    def undelete(
        self,
        name: IndexName,
        *,
        validate: ValidateVersion,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> str:
        last = last_with_record(self._versions(name), name)
        stored = self.get_version(name, last.id)
        validate(last.id, stored)
        origin = Origin(VersionEvent.UNDELETED, caller)
        return self._write(name, attempt, origin, lambda write: write.create(stored.record))

    def _versions(self, name: IndexName) -> Iterator[Version]:
        """Yields the versions of an index, newest first, and few more than are taken."""
        after = ""
        while page := self.list_versions(name, after=after, limit=_DELETION_AND_LAST):
            yield from page
            after = page[-1].id

    @without_pauses
    def delete(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        caller: str,
        attempt: WriteAttempt | None,
    ) -> str | None:
        origin = Origin(VersionEvent.DELETED, caller)
        return self._write(name, attempt, origin, lambda write: write.delete(if_etag))

    def list(
        self,
        names: NameRange,
        after: IndexName | None,
        limit: int,
        *,
        listing: str,  # noqa: ARG002
        show_deleted: bool = False,
    ) -> list[IndexName]:
        with self.translate_errors():
            self._require_keystore()
            if not show_deleted:
                return list(islice(self._names.list(names, after, limit), limit))
            s3_has_versions = self._history.versioning.find() is not Versioning.OFF
            found = self._names.list_with_deleted(
                names, after, limit, s3_has_versions=s3_has_versions
            )
            return list(islice(found, limit))

    def list_versions(self, name: IndexName, *, after: str, limit: int) -> Sequence[Version]:
        with self.translate_errors():
            self._require_keystore()
            return self._history.reader(name).page(after, limit)

    def get_version(self, name: IndexName, version_id: str) -> StoredRecord:
        with self.translate_errors():
            self._require_keystore()
            return self._history.reader(name).read(version_id)

    def import_versions(
        self, name: IndexName, versions: Sequence[ImportedVersion]
    ) -> Sequence[Version]:
        with self.translate_errors():
            self._require_keystore()
            self._holds.require_free(name)
            return self._history.import_versions(name, versions)

    def destroy(
        self, name: IndexName, *, if_etag: str | None, digest: Callable[[bytes], str]
    ) -> Destruction:
        with self.translate_errors():
            self._require_keystore()
            destruction = S3Destruction(self._s3, self._key(name), name, self._history, self._holds)
            with self._logged(name):
                return destruction.run(if_etag, digest)

    def find_hold(self, name: IndexName) -> Hold | None:
        with self.translate_errors():
            self._require_keystore()
            return self._holds.find(name)

    def hold(self, name: IndexName, hold: Hold) -> None:
        with self.translate_errors():
            self._require_keystore()
            self._holds.add(name, hold)

    def release(self, name: IndexName) -> bool:
        with self.translate_errors():
            self._require_keystore()
            return self._holds.remove(name)

    def notice_change(self, name: IndexName) -> bool:
        with self.translate_errors():
            newest = self._history.reader(name).page("", 1)
            hold = self._holds.find(name)
        # S3's times are whole seconds: a change in the second of the hold may be older.
        return bool(
            hold and any(_is_foreign(one) and one.time_ns - 10**9 > hold.time_ns for one in newest)
        )

    def history_totals(self) -> HistoryTotals:
        return self._history.totals

    def schedule_scan(self) -> None:
        """Does nothing: the history doesn't follow changes."""

    def describe_history(self) -> str:
        return self._history.describe()

    def maintain_history(self) -> Iterator[HistoryStep]:
        with self.translate_errors():
            yield from self._find_breaches()
            yield from self._history.maintain()

    def _find_breaches(self) -> Iterator[HistoryStep]:
        """Checks each held index, as S3 reports no changes."""
        if time.monotonic() < self._next_hold_check:
            return
        self._next_hold_check = time.monotonic() + self._hold_check_interval
        for name in self._holds.list():
            yield name if self.notice_change(name) else 0

    def scan_objects(self) -> Iterator[Sequence[ListedObject]]:
        """Yields the objects in the folder, a page at a time. Their keys are relative to it."""
        start = len(self._folder)
        with self.translate_errors():
            is_empty = True
            for page in self._s3.list_objects_v2(self._folder):
                is_empty = is_empty and not page
                yield [
                    ListedObject(listed.key[start:], listed.etag, listed.modified)
                    for listed in page
                ]
            if is_empty:  # an empty keystore still has its mark, and another server has none
                self._find_keystore()

    def find_object(self, name: IndexName) -> ListedObject | None:
        """Returns what `scan_objects` would yield for one name."""
        with self.translate_errors():
            stored = self._s3.find_object(self._key(name), MAX_RECORD_BYTES)
        if stored is None:
            return None
        return ListedObject(name.key, stored.etag, _to_iso(stored.modified))

    def translate_errors(self) -> AbstractContextManager[None]:
        return translate_errors(f"the store {self._s3.endpoint}")

    def close(self) -> None:
        if self._log_writer:
            self._log_writer.close()
        self._s3.close()

    def _require_keystore(self) -> None:
        """Makes a request only while the keystore may be missing."""
        if self._may_be_missing:
            self._find_keystore()

    def _find_keystore(self) -> bool:
        """Returns whether it created a new keystore, which it does at most once. Raises
        `NoKeystoreError` if there is none.
        """
        is_new = False
        if not self._keystore.is_marked(self._s3):
            is_new = not self._has_envelopes()
            if is_new and not self._may_create:
                self._may_be_missing = True
                raise self._keystore.not_found()
            self._mark(is_new=is_new)
        self._may_create = self._may_be_missing = False
        return is_new

    def _mark(self, *, is_new: bool) -> None:
        """Also marks a keystore that CyborgDB created, if kekd may write there. Without the marker,
        it would look missing once it is empty.
        """
        try:
            self._keystore.mark(self._s3)
        except RequestError:
            if is_new:
                raise

    def _has_envelopes(self) -> bool:
        return any(next(self._s3.list_objects_v2(self._folder, page_size=1)))

    def _key(self, name: IndexName) -> str:
        return self._folder + name.key

    def _write(
        self,
        name: IndexName,
        attempt: WriteAttempt | None,
        origin: Origin,
        write: Callable[[S3Write], T],
    ) -> T:
        with self.translate_errors():
            self._require_keystore()
            started = S3Write(
                S3Object(self._s3, self._key(name)),
                name,
                attempt or WriteAttempt.single(),
                origin,
                self._history.open(name),
                holds=self._holds,
            )
            with self._logged(name):
                return write(started)

    @contextmanager
    def _logged(self, name: IndexName) -> Iterator[None]:
        """Logs a write, also if it may have been applied."""
        try:
            yield
        except (OutcomeUnknownError, RequestError):
            self._log_write(name, is_certain=False)
            raise
        self._log_write(name, is_certain=True)

    def _log_write(self, name: IndexName, *, is_certain: bool) -> None:
        if self._log_writer:
            self._log_writer.append(name.key, is_certain=is_certain)


def _is_foreign(version: Version) -> bool:
    """Whether another program made it. A deletion that S3 keeps has no caller, but kekd deletes
    nothing while it is held.
    """
    return version.event is VersionEvent.FOUND or (version.is_deletion and not version.caller)


def _to_iso(modified: str) -> str:
    """Converts an HTTP date to the format of listings. Leaves any other text as the server sent it:
    only differences matter.
    """
    try:
        return parsedate_to_datetime(modified).strftime(_MODIFIED_FORMAT)
    except (ValueError, OverflowError):
        return modified
