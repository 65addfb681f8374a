"""Restores indexes to their state at a time."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from kekd._cli.output.times import format_timestamp
from kekd._models import EnvelopeVersion, StorageConfig, VersionEvent
from kekd.errors import EnvelopeError, VersionNotFoundError
from kekd.kek import Failure
from kekd.kek.conflicts import retry_conflicts
from kekd.kek.job_pool import JobPool

if TYPE_CHECKING:
    from kekd._client import Client

_Change: TypeAlias = Literal["restored", "deleted"]
RestoreOutcome: TypeAlias = _Change | Literal["unchanged", "would restore", "would delete"]

_DRY: Final[dict[_Change, RestoreOutcome]] = {
    "restored": "would restore",
    "deleted": "would delete",
}


@dataclass(frozen=True, slots=True)
class Restoration:
    """The outcome of restoring an index."""

    index_name: str
    outcome: RestoreOutcome


def restore_all(  # noqa: PLR0913
    client: "Client",
    config_location: StorageConfig | None,
    *,
    at: datetime,
    prefix: str,
    jobs: int,
    dry_run: bool,
) -> Generator[Restoration | Failure, None, None]:
    """Restores every index with the prefix, `jobs` at once, and yields the outcomes in any order.

    Keeps no state. After an interruption, call it again: it restores the rest. Raises
    `kekd.EnvelopeError` if the indexes can't be listed.
    """
    restorer = _Restorer(client, config_location, at, dry_run=dry_run)
    with JobPool[Restoration | Failure](jobs) as pool:
        for index_name in client.list_index_kms(config_location, prefix, show_deleted=True):
            pool.start(restorer.restore, index_name)
            while pool.is_full:
                yield from pool.wait_any()
        while pool.in_flight:
            yield from pool.wait_any()


class _Restorer:
    def __init__(
        self, client: "Client", location: StorageConfig | None, at: datetime, *, dry_run: bool
    ) -> None:
        self._client = client
        self._location = location
        self._at = at
        self._dry_run = dry_run

    def restore(self, index_name: str) -> Restoration | Failure:
        """Never overwrites a change that it hasn't read: it starts again with that one."""
        try:
            return retry_conflicts(partial(self._restore, index_name))
        except EnvelopeError as error:
            return Failure(index_name, error)

    def _restore(self, index_name: str) -> Restoration:
        versions = self._read_versions(index_name)
        wanted = self._find_wanted(index_name, versions)
        current = versions[0]
        if _has_same_state(wanted, current):
            return Restoration(index_name, "unchanged")
        if wanted and wanted.error:
            raise wanted.error
        change: _Change = "restored" if wanted else "deleted"
        if self._dry_run:
            return Restoration(index_name, _DRY[change])
        if wanted is None:
            self._client.delete_index_kms(self._location, index_name, if_etag=current.etag)
        elif current.event is VersionEvent.DELETED:
            self._create(index_name, wanted, versions)
        else:
            self._client.restore_index_kms(
                self._location, index_name, wanted.version_id, if_etag=current.etag
            )
        return Restoration(index_name, change)

    def _read_versions(self, index_name: str) -> list[EnvelopeVersion]:
        """Reads no more than the versions since the time, and the one before it."""
        versions = []
        for version in self._client.list_versions_index_kms(self._location, index_name, full=True):
            versions.append(version)
            if version.time <= self._at:
                break
        return versions

    def _find_wanted(
        self, index_name: str, versions: Iterable[EnvelopeVersion]
    ) -> EnvelopeVersion | None:
        """Returns the version at the time, or None if the index had no envelope then."""
        oldest = None
        for oldest in versions:
            if oldest.time <= self._at:
                return None if oldest.event is VersionEvent.DELETED else oldest
        if oldest and oldest.event is VersionEvent.CREATED:
            return None
        why = (
            f"its oldest version is from {format_timestamp(oldest.time)}; choose a later time, or"
            " import a backup"
            if oldest
            else "the store has no version of it; import a backup"
        )
        raise VersionNotFoundError(
            f"cannot restore index '{index_name}' to {format_timestamp(self._at)}: {why}",
            index_name=index_name,
        )

    def _create(
        self, index_name: str, wanted: EnvelopeVersion, versions: Iterable[EnvelopeVersion]
    ) -> None:
        """Creates the envelope of a deleted index, unless another caller does.

        A restore would replace the other caller's envelope, because it has no etag to compare.
        """
        last = next(version for version in versions if version.event is not VersionEvent.DELETED)
        if wanted is last:
            self._client.undelete_index_kms(self._location, index_name)
        elif wanted.blob:
            self._client.create_index_kms(self._location, index_name, wanted.blob)


def _has_same_state(wanted: EnvelopeVersion | None, current: EnvelopeVersion) -> bool:
    if wanted is None or current.event is VersionEvent.DELETED:
        return wanted is None and current.event is VersionEvent.DELETED
    # In a bucket with encryption, equal envelopes may have different etags.
    return wanted.etag == current.etag or (wanted.blob is not None and wanted.blob == current.blob)
