"""The contract of a driver's import of versions, as tests that every driver's own file inherits."""

import time
from collections.abc import Callable
from typing import Final

import pytest

from kekd_server.model.errors import (
    EnvelopeHeldError,
    EnvelopeNotFoundError,
    HistoryConflictError,
    HistoryOffError,
)
from kekd_server.storage.driver import Driver
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.history.version import Origin, VersionEvent
from kekd_server.storage.history.version_import import ImportedVersion
from tests.contract.driver_contract import ALL, NAME, Harness
from tests.contract.history_contract import HOLD, destroy, events_of, versions_of
from tests.fixtures.writes import create, put

OFF: Final = Retention(versions=0)
MINUTE: Final = 60 * 10**9
START: Final = time.time_ns() // 1000 * 1000
"""The times of imports are before it, in microseconds like those of a backup."""


def past(
    minutes: int, record: bytes, event: VersionEvent = VersionEvent.PUSHED, caller: str = "uid:7"
) -> ImportedVersion:
    """A version from some minutes ago."""
    return ImportedVersion(START - minutes * MINUTE, Origin(event, caller), record)


def deletion(minutes: int) -> ImportedVersion:
    return past(minutes, b"", VersionEvent.DELETED)


CREATED: Final = past(5, b"old", VersionEvent.CREATED, "spiffe://example.org/a b/é-%")
"""The oldest version of a backup."""


class ImportContract:
    """A base for stores that keep versions of a backup, beside `HistoryContract`."""

    def test_imported_versions_are_below_the_record(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"now")
        (now,) = versions_of(harness.driver)
        added = harness.driver.import_versions(NAME, [past(1, b"older"), CREATED])
        newest, *others = versions_of(harness.driver)
        assert newest == now
        assert others == list(added)
        assert harness.driver.get(NAME).record == harness.read(NAME.key) == b"now"

    def test_imported_version_has_the_time_event_caller_and_record_of_the_backup(
        self, harness: Harness
    ) -> None:
        create(harness.driver, NAME, b"now")
        harness.driver.import_versions(NAME, [CREATED])
        _, version = versions_of(harness.driver)
        assert version.time_ns == CREATED.time_ns
        assert Origin(version.event, version.caller) == CREATED.origin
        assert version.size == len(b"old")
        assert harness.driver.get_version(NAME, version.id).record == b"old"

    def test_imported_version_has_the_etag_of_the_same_record(self, harness: Harness) -> None:
        etag = create(harness.driver, NAME, b"same")
        harness.driver.import_versions(NAME, [past(1, b"same")])
        assert [version.etag for version in versions_of(harness.driver)] == [etag, etag]

    def test_imported_version_can_be_restored(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"now")
        (version,) = harness.driver.import_versions(NAME, [CREATED])
        record = harness.driver.get_version(NAME, version.id).record
        put(harness.driver, NAME, record, if_etag=None)
        assert events_of(harness.driver) == ["pushed", "created", "created"]

    def test_deleted_index_is_imported_with_its_deletion(self, harness: Harness) -> None:
        harness.driver.import_versions(NAME, [deletion(1), CREATED])
        assert events_of(harness.driver) == ["deleted", "created"]
        with pytest.raises(EnvelopeNotFoundError):
            harness.driver.get(NAME)
        assert harness.driver.list(ALL, None, 9, listing="a") == []
        assert harness.driver.list(ALL, None, 9, listing="b", show_deleted=True) == [NAME]
        create(harness.driver, NAME, b"next")
        assert events_of(harness.driver) == ["created", "deleted", "created"]

    def test_repeated_import_adds_nothing(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"now")
        imported = [deletion(1), CREATED]
        harness.driver.import_versions(NAME, imported)
        versions = versions_of(harness.driver)
        assert harness.driver.import_versions(NAME, imported) == []
        assert versions_of(harness.driver) == versions

    def test_version_that_was_encoded_differently_is_recognized_by_its_etag(
        self, harness: Harness
    ) -> None:
        create(harness.driver, NAME, b"now")
        (version,) = harness.driver.import_versions(NAME, [CREATED])
        encoded = CREATED._replace(record=b"encoded differently", etag=version.etag)
        assert harness.driver.import_versions(NAME, [encoded]) == []
        assert len(versions_of(harness.driver)) == 2

    def test_repetition_adds_the_rest_of_an_interrupted_import(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"now")
        imported = [deletion(1), CREATED]
        harness.driver.import_versions(NAME, imported[:1])
        (added,) = harness.driver.import_versions(NAME, imported)
        assert added.event == "created"
        assert events_of(harness.driver) == ["created", "deleted", "created"]

    def test_version_between_others_is_refused_and_nothing_is_added(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"now")
        harness.driver.import_versions(NAME, [past(3, b"3")])
        versions = versions_of(harness.driver)
        with pytest.raises(HistoryConflictError, match="import only versions that are older"):
            harness.driver.import_versions(NAME, [past(2, b"2"), past(3, b"3"), past(4, b"4")])
        assert versions_of(harness.driver) == versions

    def test_history_without_an_envelope_must_end_with_a_deletion(self, harness: Harness) -> None:
        with pytest.raises(HistoryConflictError, match="create the envelope first"):
            harness.driver.import_versions(NAME, [CREATED])
        assert versions_of(harness.driver) == []

    def test_import_into_a_held_index_is_refused(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"now")
        harness.driver.hold(NAME, HOLD)
        with pytest.raises(EnvelopeHeldError):
            harness.driver.import_versions(NAME, [CREATED])
        assert len(versions_of(harness.driver)) == 1

    def test_destroy_removes_imported_versions(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"now")
        harness.driver.import_versions(NAME, [past(1, b"older"), CREATED])
        versions = versions_of(harness.driver)
        destroyed, remaining = destroy(harness.driver)
        assert destroyed == [(version.id, version.etag) for version in versions]
        assert not remaining
        assert versions_of(harness.driver) == []

    def test_background_removes_imported_versions_beyond_the_limit(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"now")
        harness.driver.import_versions(NAME, [past(age, b"%d" % age) for age in range(1, 6)])
        for _ in harness.driver.maintain_history():
            pass
        kept = [
            harness.driver.get_version(NAME, version.id).record
            for version in versions_of(harness.driver)
        ]
        assert kept == [b"now", b"1", b"2"]


def refuses_without_a_history(make: Callable[[Retention], Driver]) -> None:
    driver = make(OFF)
    create(driver, NAME, b"now")
    with pytest.raises(HistoryOffError, match="the store keeps no history"):
        driver.import_versions(NAME, [CREATED])
