"""The versions of the envelopes of a store, and what protects or destroys them."""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Final

from kekd_schema import CorruptRecordError, Envelope, decode
from kekd_server.model.deadline import Deadline, with_deadline
from kekd_server.model.errors import (
    CorruptVersionError,
    EnvelopeNotFoundError,
    KekdError,
    OutcomeUnknownError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import Driver, StoredRecord, WriteResult
from kekd_server.storage.driver_calls import DriverCalls
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.version import Version
from kekd_server.storage.history.version_import import ImportedEnvelope
from kekd_server.storage.history.version_listing import VersionListing
from kekd_server.storage.stored_envelope import StoredEnvelope
from kekd_server.storage.watch.event import Change, ChangeKind
from kekd_server.storage.writes.attempt import WriteAttempt
from kekd_server.storage.writes.steps import Steps

_MAX_VERSIONS: Final = 100
"""Versions on a page. On S3, each may take two requests."""
_MAX_VERSIONS_BYTES: Final = 2**20


class EnvelopeVersions:
    """Lists, reads, restores and imports versions, holds them, and destroys them with their
    envelope. Like `Store`, whose part it is.
    """

    def __init__(self, store: str, driver: Driver, calls: DriverCalls) -> None:
        self._store = store
        self._driver = driver
        self._calls = calls

    async def restore(
        self,
        name: IndexName,
        version_id: str,
        *,
        if_etag: str | None,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> WriteResult:
        """Stores the envelope of a version again, as a new version. Otherwise like `put`. Raises
        `VersionNotFoundError` and `CorruptVersionError`.
        """

        def write_record(attempt: WriteAttempt | None) -> "Steps[WriteResult]":
            return self._driver.restore(
                *(name, version_id),
                validate=partial(_decode_version, name),
                if_etag=if_etag,
                caller=owner,
                attempt=attempt,
            )

        return await self._calls.write(ChangeKind.RESTORED, name, write_record, owner, attempt)

    async def undelete(
        self, name: IndexName, *, owner: str = "", attempt: WriteAttempt | None = None
    ) -> str:
        """Creates the envelope that the index had before it was deleted, and returns its etag.
        Raises `EnvelopeExistsError`, `NothingToUndeleteError` and `CorruptVersionError`.
        """

        def write_record(attempt: WriteAttempt | None) -> "Steps[WriteResult]":
            validate = partial(_decode_version, name)
            steps = self._driver.undelete(name, validate=validate, caller=owner, attempt=attempt)
            return WriteResult((yield from steps), None)

        written = await self._calls.write(ChangeKind.UNDELETED, name, write_record, owner, attempt)
        return written.etag

    async def destroy(
        self,
        name: IndexName,
        *,
        if_etag: str | None,
        owner: str = "",
        attempt: WriteAttempt | None = None,
    ) -> Destruction:
        """Removes the envelope and all its versions. Raises `EtagMismatchError` and
        `EnvelopeHeldError`.
        """
        loop = asyncio.get_running_loop()

        def destroy() -> Destruction:
            destroyed = self._driver.destroy(name, if_etag=if_etag, digest=_wrapped_kek_digest)
            self._calls.publish(loop, Change(ChangeKind.DELETED, name))
            return destroyed._replace(store=self._store)

        async def destroy_once(attempt: WriteAttempt | None) -> Destruction:
            if attempt and attempt.is_retry and if_etag is None:
                await self._require_absent(name, owner)
            return await self._calls.run_with_context(destroy, owner)

        return await self._calls.run_once(attempt, name, destroy_once)

    async def import_versions(
        self, name: IndexName, versions: Sequence[ImportedEnvelope], *, owner: str = ""
    ) -> Sequence[Version]:
        """See `Driver.import_versions`."""
        encoded = [version.version for version in versions]
        with self._calls.error_context:
            return await self._calls.run_with_context(
                lambda: self._driver.import_versions(name, encoded), owner
            )

    async def hold(self, name: IndexName, hold: Hold, *, owner: str = "") -> None:
        """See `Driver.hold`."""
        with self._calls.error_context:
            await self._calls.run_with_context(lambda: self._driver.hold(name, hold), owner)

    async def release(self, name: IndexName, *, owner: str = "") -> bool:
        """See `Driver.release`."""
        with self._calls.error_context:
            return await self._calls.run_with_context(lambda: self._driver.release(name), owner)

    async def list(  # noqa: PLR0913
        self,
        name: IndexName,
        after: str,
        limit: int,
        *,
        with_envelopes: bool = False,
        owner: str = "",
        deadline: Deadline = None,
    ) -> VersionListing:
        """See `Driver.list_versions`. A page has at most `_MAX_VERSIONS` versions. With envelopes,
        it ends before they exceed `_MAX_VERSIONS_BYTES`, but not before the first one.
        """
        limit = min(limit, _MAX_VERSIONS)

        def read() -> VersionListing:
            # One more than requested, to see whether there is a next page.
            found = self._driver.list_versions(name, after=after, limit=limit + 1)
            page = found[:limit]
            if with_envelopes:
                page = _first_bytes(page, _MAX_VERSIONS_BYTES)
            hold = None if after else self._driver.find_hold(name)
            return VersionListing(self._store, page, {}, hold, len(found) > len(page))

        async def read_with_envelopes() -> VersionListing:
            listing = await self._calls.run_with_context(read, owner)
            if with_envelopes:
                envelopes = await self._read_versions(name, listing.versions, owner)
                listing = listing._replace(envelopes=envelopes)
            return listing

        with self._calls.error_context:
            return await with_deadline(read_with_envelopes(), deadline, self._store)

    async def get(
        self, name: IndexName, version_id: str, *, owner: str = "", deadline: Deadline = None
    ) -> StoredEnvelope:
        """Reads the envelope of a version. Raises `VersionNotFoundError` and
        `CorruptVersionError`.
        """
        with self._calls.error_context:
            return await self._calls.read(lambda: self._read(name, version_id), owner, deadline)

    async def _require_absent(self, name: IndexName, owner: str) -> None:
        """Raises `OutcomeUnknownError` if there is an envelope: it may be a later one than that of
        an earlier attempt.
        """
        try:
            await self._calls.run_with_context(lambda: self._driver.get(name), owner)
        except EnvelopeNotFoundError:
            return
        raise OutcomeUnknownError(name.value)

    async def _read_versions(
        self, name: IndexName, versions: Sequence[Version], owner: str
    ) -> dict[str, StoredEnvelope | KekdError]:
        """Returns the result for each version with an envelope, by its id."""
        ids = [version.id for version in versions if not version.is_deletion]
        results = await self._calls.read_many(ids, partial(self._get_result, name), owner)
        return dict(zip(ids, results, strict=True))

    def _get_result(self, name: IndexName, version_id: str) -> StoredEnvelope | KekdError:
        try:
            with self._calls.error_context:
                return self._read(name, version_id)
        except KekdError as error:
            return error

    def _read(self, name: IndexName, version_id: str) -> StoredEnvelope:
        stored = self._driver.get_version(name, version_id)
        envelope = _decode_version(name, version_id, stored)
        return StoredEnvelope(envelope, stored.etag, self._store, stored)


def _decode_version(name: IndexName, version_id: str, stored: StoredRecord) -> Envelope:
    try:
        return decode(stored.record)
    except CorruptRecordError as error:
        raise CorruptVersionError(name.value, version_id, str(error)) from error


def _wrapped_kek_digest(record: bytes) -> str:
    """Returns the SHA-256 of a record's wrapped KEK; empty if it has none or is corrupt."""
    try:
        wrapped_kek = decode(record).wrapped_kek
    except CorruptRecordError:
        return ""
    return hashlib.sha256(wrapped_kek).hexdigest() if wrapped_kek else ""


def _first_bytes(versions: Sequence[Version], limit: int) -> Sequence[Version]:
    """Returns the first versions whose records have at most `limit` bytes, but at least one."""
    total = 0
    for place, version in enumerate(versions):
        total += version.size
        if place and total > limit:
            return versions[:place]
    return versions
