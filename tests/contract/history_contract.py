"""The contract of a driver's history, as tests that every driver's own file inherits."""

from collections.abc import Callable
from threading import Thread
from typing import Final

import pytest

from kekd_server.model.errors import (
    CorruptVersionError,
    EnvelopeHeldError,
    EtagMismatchError,
    NothingToUndeleteError,
    VersionNotFoundError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import Driver, StoredRecord, ValidateVersion
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.version import Origin, Version, VersionEvent
from tests.contract.driver_contract import NAME, Harness
from tests.fixtures.writes import create, delete, put, restore, undelete
from tests.patience import PATIENCE

RESTORED = Origin(VersionEvent.RESTORED, "uid:7")
OTHER = IndexName("other")
HOLD = Hold("in court", "uid:7", 1)


def versions_of(driver: Driver, name: IndexName = NAME) -> list[Version]:
    return list(driver.list_versions(name, after="", limit=1000))


def events_of(driver: Driver) -> list[str]:
    return [version.event for version in versions_of(driver)]


def maintain(driver: Driver) -> int:
    """Returns the number of versions that were removed."""
    return sum(step for step in driver.maintain_history() if isinstance(step, int))


def destroy(driver: Driver) -> tuple[list[tuple[str, str]], list[str]]:
    """Returns the ids and etags of what was removed, and the ids of what remains."""
    destroyed = driver.destroy(NAME, if_etag=None, digest=lambda _: "")
    return (
        [(version.id, version.etag) for version in destroyed.destroyed],
        [version.id for version in destroyed.remaining],
    )


WRITES: Final[dict[str, Callable[[Driver], object]]] = {
    "push": lambda driver: put(driver, NAME, b"2", if_etag=None),
    "delete": lambda driver: delete(driver, NAME, if_etag=None),
    "destroy": destroy,
}


def accept(_id: str, _stored: StoredRecord) -> None:
    """Lets every version be stored again."""


def refuse(version_id: str, _stored: StoredRecord) -> None:
    raise CorruptVersionError(NAME.value, version_id, "refused")


REPEATS: Final[dict[str, Callable[[Driver, str, ValidateVersion], object]]] = {
    "restore": lambda driver, version_id, validate: restore(
        driver, *(NAME, version_id), validate=validate, if_etag=None
    ),
    "undelete": lambda driver, _, validate: undelete(driver, NAME, validate=validate),
}


class HistoryContract:
    """The base of a class with a `harness` fixture, whose driver keeps three versions."""

    def test_each_write_adds_a_version(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        put(harness.driver, NAME, b"2", if_etag=None)
        put(harness.driver, NAME, b"1", if_etag=None, origin=RESTORED)
        assert events_of(harness.driver) == ["restored", "pushed", "created"]

    def test_version_has_the_bytes_that_were_written(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        put(harness.driver, NAME, b"22", if_etag=None)
        records = [
            harness.driver.get_version(NAME, version.id) for version in versions_of(harness.driver)
        ]
        assert [stored.record for stored in records] == [b"22", b"1"]

    def test_version_has_the_etag_size_and_caller_of_its_write(self, harness: Harness) -> None:
        caller = "spiffe://example.org/a b/é-%"
        create(harness.driver, NAME, b"1")
        etag = put(
            harness.driver, NAME, b"22", if_etag=None, origin=Origin(VersionEvent.PUSHED, caller)
        ).etag
        newest = versions_of(harness.driver)[0]
        assert (newest.etag, newest.size, newest.caller) == (etag, 2, caller)

    def test_newest_version_is_the_stored_record(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        put(harness.driver, NAME, b"2", if_etag=None)
        assert versions_of(harness.driver)[0].etag == harness.driver.get(NAME).etag

    def test_deletion_is_a_version_without_a_record(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        delete(harness.driver, NAME, if_etag=None, caller="uid:7")
        deletion, created = versions_of(harness.driver)
        assert (deletion.event, deletion.etag, deletion.size) == ("deleted", "", 0)
        with pytest.raises(VersionNotFoundError, match="a deletion"):
            harness.driver.get_version(NAME, deletion.id)
        assert harness.driver.get_version(NAME, created.id).record == b"1"

    def test_restore_stores_the_record_of_a_version_again(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        put(harness.driver, NAME, b"2", if_etag=None)
        created = versions_of(harness.driver)[1]
        restore(harness.driver, *(NAME, created.id), validate=accept, if_etag=None, caller="uid:7")
        newest = versions_of(harness.driver)[0]
        assert (newest.event, newest.caller, newest.etag) == ("restored", "uid:7", created.etag)
        assert harness.driver.get(NAME).record == b"1"

    def test_undelete_stores_the_last_record_again(self, harness: Harness) -> None:
        for record in (b"1", b"2"):
            put(harness.driver, NAME, record, if_etag=None)
        delete(harness.driver, NAME, if_etag=None)
        undelete(harness.driver, NAME, validate=accept, caller="uid:7")
        newest = versions_of(harness.driver)[0]
        assert (newest.event, newest.caller) == ("undeleted", "uid:7")
        assert harness.driver.get(NAME).record == b"2"

    def test_undelete_without_a_version_is_refused(self, harness: Harness) -> None:
        with pytest.raises(NothingToUndeleteError):
            undelete(harness.driver, NAME, validate=accept)

    @pytest.mark.parametrize("write", ["restore", "undelete"])
    def test_version_that_is_not_accepted_is_not_stored(self, harness: Harness, write: str) -> None:
        create(harness.driver, NAME, b"1")
        (created,) = versions_of(harness.driver)
        delete(harness.driver, NAME, if_etag=None)
        with pytest.raises(CorruptVersionError):
            REPEATS[write](harness.driver, created.id, refuse)
        assert events_of(harness.driver) == ["deleted", "created"]

    def test_refused_write_adds_no_version(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        with pytest.raises(Exception, match="already exists"):
            create(harness.driver, NAME, b"2")
        with pytest.raises(Exception, match="etag mismatch"):
            put(harness.driver, NAME, b"2", if_etag="0" * 32)
        with pytest.raises(Exception, match="etag mismatch"):
            delete(harness.driver, NAME, if_etag="0" * 32)
        delete(harness.driver, OTHER, if_etag=None)
        assert events_of(harness.driver) == ["created"]
        assert versions_of(harness.driver, OTHER) == []

    def test_times_increase_from_version_to_version(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        delete(harness.driver, NAME, if_etag=None)
        create(harness.driver, NAME, b"1")
        times = [version.time_ns for version in versions_of(harness.driver)]
        assert times == sorted(set(times), reverse=True)

    @pytest.mark.parametrize(
        "forged", ["0", "../x", "é", "0" * 16 + "-" + "0" * 12, "%", "a" * 300]
    )
    def test_forged_version_id_is_not_found(self, harness: Harness, forged: str) -> None:
        create(harness.driver, NAME, b"1")
        with pytest.raises(VersionNotFoundError):
            harness.driver.get_version(NAME, forged)

    def test_version_id_of_another_index_is_not_found(self, harness: Harness) -> None:
        create(harness.driver, OTHER, b"1")
        create(harness.driver, NAME, b"2")
        with pytest.raises(VersionNotFoundError):
            harness.driver.get_version(NAME, versions_of(harness.driver, OTHER)[0].id)

    def test_pages_have_each_version_once(self, harness: Harness) -> None:
        for record in b"1", b"2", b"3":
            put(harness.driver, NAME, record, if_etag=None)
        first = harness.driver.list_versions(NAME, after="", limit=2)
        second = harness.driver.list_versions(NAME, after=first[-1].id, limit=2)
        assert [*first, *second] == versions_of(harness.driver)

    def test_page_after_an_unknown_version_is_refused(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        with pytest.raises(VersionNotFoundError):
            harness.driver.list_versions(NAME, after="unknown", limit=2)


class KekdHistoryContract(HistoryContract):
    """For stores where kekd itself keeps the versions."""

    def test_deletion_has_its_caller(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        delete(harness.driver, NAME, if_etag=None, caller="uid:7")
        assert [version.caller for version in versions_of(harness.driver)] == ["uid:7", ""]

    def test_background_removes_versions_beyond_the_limit(self, harness: Harness) -> None:
        for number in range(5):
            put(harness.driver, NAME, b"%d" % number, if_etag=None)
        for _ in harness.driver.maintain_history():
            pass
        kept = [
            harness.driver.get_version(NAME, version.id).record
            for version in versions_of(harness.driver)
        ]
        assert kept == [b"4", b"3", b"2"]

    def test_writes_go_on_between_two_steps_of_the_background(self, harness: Harness) -> None:
        for record in b"1", b"2":
            put(harness.driver, NAME, record, if_etag=None)
        steps = harness.driver.maintain_history()
        next(steps, None)
        push = Thread(target=put, args=(harness.driver, NAME, b"3"), kwargs={"if_etag": None})
        push.daemon = True
        push.start()
        push.join(PATIENCE)
        assert not push.is_alive()


class ProtectionContract:
    """A base for stores that can hold and destroy envelopes, beside `HistoryContract`."""

    def test_destroy_removes_the_record_and_every_version(self, harness: Harness) -> None:
        for record in b"1", b"2":
            put(harness.driver, NAME, record, if_etag=None)
        versions = versions_of(harness.driver)
        destroyed, remaining = destroy(harness.driver)
        assert destroyed == [(version.id, version.etag) for version in versions]
        assert not remaining
        assert harness.read(NAME.key) is None
        assert versions_of(harness.driver) == []

    def test_destroy_of_a_deleted_index_removes_its_versions(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        delete(harness.driver, NAME, if_etag=None)
        destroyed, _ = destroy(harness.driver)
        assert len(destroyed) == 1
        assert versions_of(harness.driver) == []

    def test_destroy_of_nothing_is_a_no_op(self, harness: Harness) -> None:
        assert destroy(harness.driver) == ([], [])

    def test_destroy_with_a_stale_etag_is_refused_and_changes_nothing(
        self, harness: Harness
    ) -> None:
        create(harness.driver, NAME, b"1")
        with pytest.raises(EtagMismatchError):
            harness.driver.destroy(NAME, if_etag="0" * 32, digest=str)
        assert harness.read(NAME.key) == b"1"
        assert len(versions_of(harness.driver)) == 1

    def test_destroy_leaves_other_indexes_alone(self, harness: Harness) -> None:
        longer = IndexName(NAME.value + ".kms.cat")
        for name in (NAME, OTHER, longer):
            create(harness.driver, name, b"1")
        destroy(harness.driver)
        assert harness.read(OTHER.key) == harness.read(longer.key) == b"1"
        assert len(versions_of(harness.driver, OTHER)) == 1
        assert len(versions_of(harness.driver, longer)) == 1

    def test_destroyed_name_is_free(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        destroy(harness.driver)
        create(harness.driver, NAME, b"2")
        assert events_of(harness.driver) == ["created"]

    @pytest.mark.parametrize("write", WRITES)
    def test_held_record_cannot_be_changed(self, harness: Harness, write: str) -> None:
        create(harness.driver, NAME, b"1")
        harness.driver.hold(NAME, HOLD)
        with pytest.raises(EnvelopeHeldError, match="'my_index' is held: in court;"):
            WRITES[write](harness.driver)
        assert harness.read(NAME.key) == b"1"
        assert len(versions_of(harness.driver)) == 1

    def test_held_name_without_a_record_cannot_be_created(self, harness: Harness) -> None:
        harness.driver.hold(NAME, HOLD)
        with pytest.raises(EnvelopeHeldError):
            create(harness.driver, NAME, b"1")
        assert harness.read(NAME.key) is None

    def test_released_record_can_be_changed(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"1")
        harness.driver.hold(NAME, HOLD)
        found = harness.driver.find_hold(NAME)
        assert found
        assert found._replace(etag=None) == HOLD
        assert harness.driver.release(NAME)
        assert harness.driver.find_hold(NAME) is None
        assert not harness.driver.release(NAME)
        put(harness.driver, NAME, b"2", if_etag=None)
        assert harness.read(NAME.key) == b"2"

    def test_hold_does_not_affect_other_indexes(self, harness: Harness) -> None:
        harness.driver.hold(NAME, HOLD)
        create(harness.driver, OTHER, b"1")
        assert harness.read(OTHER.key) == b"1"

    def test_second_hold_replaces_the_first(self, harness: Harness) -> None:
        harness.driver.hold(NAME, HOLD)
        harness.driver.hold(NAME, HOLD._replace(reason="é"))
        hold = harness.driver.find_hold(NAME)
        assert hold
        assert hold.reason == "é"


class ForeignWriterContract:
    """A second base, beside `HistoryContract`, for stores that other programs can write to."""

    def test_record_of_another_program_becomes_a_version(self, harness: Harness) -> None:
        harness.write(NAME.key, b"foreign")
        put(harness.driver, NAME, b"mine", if_etag=None)
        newest, found = versions_of(harness.driver)
        assert (newest.event, found.event) == ("pushed", "found")
        assert harness.driver.get_version(NAME, found.id).record == b"foreign"

    def test_record_of_another_program_is_kept_before_it_is_deleted(self, harness: Harness) -> None:
        harness.write(NAME.key, b"foreign")
        delete(harness.driver, NAME, if_etag=None)
        _, found = versions_of(harness.driver)
        assert harness.driver.get_version(NAME, found.id).record == b"foreign"

    def test_replacement_by_another_program_keeps_the_version_before(
        self, harness: Harness
    ) -> None:
        create(harness.driver, NAME, b"mine")
        harness.write(NAME.key, b"foreign")
        found, created = versions_of(harness.driver)
        assert (found.event, created.event) == ("found", "created")
        assert harness.driver.get_version(NAME, created.id).record == b"mine"

    def test_deletion_by_another_program_keeps_the_version_before(self, harness: Harness) -> None:
        create(harness.driver, NAME, b"mine")
        harness.remove(NAME.key)
        deletion, created = versions_of(harness.driver)
        assert deletion.is_deletion
        assert harness.driver.get_version(NAME, created.id).record == b"mine"
