"""A listing never turns back what a later read of the change log or an own write showed."""

import pytest

from kekd_server.model.index_name import IndexName
from kekd_server.storage.s3.listing import ListedObject
from kekd_server.storage.s3.watch.known_objects import KnownObjects
from kekd_server.storage.watch.event import Change, ChangeKind

NAME = IndexName("one")
OTHER = IndexName("two")
OLD = ListedObject(NAME.key, "old", "m")
NEW = ListedObject(NAME.key, "new", "m")

CREATED = Change(ChangeKind.CREATED, NAME, "new")
PUSHED = Change(ChangeKind.PUSHED, NAME, "new")
DELETED = Change(ChangeKind.DELETED, NAME)


@pytest.fixture
def empty() -> KnownObjects:
    return KnownObjects()


@pytest.fixture
def known(empty: KnownObjects) -> KnownObjects:
    """Knows the old version."""
    listed(empty, OLD)
    return empty


def listed(known: KnownObjects, *versions: ListedObject) -> list[Change]:
    known.begin_listing()
    return known.add_page(versions) + known.end_listing()


def test_listing_reports_creates_pushes_and_deletes(empty: KnownObjects) -> None:
    other = ListedObject(OTHER.key, "e", "m")
    assert listed(empty, NEW, other) == [CREATED, Change(ChangeKind.CREATED, OTHER, "e")]
    assert listed(empty, NEW, other) == []
    assert listed(empty, OLD) == [
        Change(ChangeKind.PUSHED, NAME, "old"),
        Change(ChangeKind.DELETED, OTHER),
    ]


def test_object_that_is_no_envelope_is_no_change(empty: KnownObjects) -> None:
    assert listed(empty, ListedObject("readme", "e", "m")) == []
    assert listed(empty) == []


def test_refresh_reports_a_change_once(known: KnownObjects) -> None:
    assert known.refresh(NAME, OLD) is None
    assert known.refresh(NAME, NEW) == PUSHED
    assert known.refresh(NAME, NEW) is None
    assert known.refresh(NAME, None) == DELETED
    assert known.refresh(NAME, None) is None
    assert known.refresh(NAME, NEW) == CREATED


def test_refreshed_push_is_not_reported_again_by_its_page(known: KnownObjects) -> None:
    known.begin_listing()
    assert known.refresh(NAME, NEW) == PUSHED
    assert known.add_page([NEW]) == []
    assert known.end_listing() == []


def test_refreshed_create_is_not_reported_again_by_its_page(empty: KnownObjects) -> None:
    empty.begin_listing()
    assert empty.refresh(NAME, NEW) == CREATED
    assert empty.add_page([NEW]) == []


def test_page_that_is_older_than_a_refresh_is_ignored(known: KnownObjects) -> None:
    known.begin_listing()
    assert known.refresh(NAME, NEW) == PUSHED
    assert known.add_page([OLD]) == []
    assert known.end_listing() == []
    assert listed(known, NEW) == [], "the next listing must find the refreshed version"


def test_create_after_its_page_is_not_reported_as_deleted(empty: KnownObjects) -> None:
    empty.begin_listing()
    assert empty.add_page([]) == []
    assert empty.refresh(NAME, NEW) == CREATED
    assert empty.end_listing() == []
    assert listed(empty, NEW) == []


def test_recreation_after_its_page_is_not_reported_as_deleted(known: KnownObjects) -> None:
    """The page shows neither the old envelope nor the new one."""
    known.begin_listing()
    assert known.add_page([]) == []
    assert known.refresh(NAME, NEW) == PUSHED
    assert known.end_listing() == []


def test_refreshed_delete_before_its_page_is_reported_once(known: KnownObjects) -> None:
    known.begin_listing()
    assert known.refresh(NAME, None) == DELETED
    assert known.add_page([]) == []
    assert known.end_listing() == []


def test_page_that_is_older_than_a_delete_is_ignored(known: KnownObjects) -> None:
    known.begin_listing()
    assert known.refresh(NAME, None) == DELETED
    assert known.add_page([OLD]) == []
    assert known.end_listing() == []


def test_refreshed_delete_after_its_page_is_reported_once(known: KnownObjects) -> None:
    known.begin_listing()
    assert known.add_page([OLD]) == []
    assert known.refresh(NAME, None) == DELETED
    assert known.end_listing() == []
    assert listed(known) == []


def test_delete_that_a_listing_reported_is_not_reported_again(known: KnownObjects) -> None:
    assert listed(known) == [DELETED]
    assert known.refresh(NAME, None) is None


def test_refresh_before_a_listing_does_not_hide_its_changes(known: KnownObjects) -> None:
    assert known.refresh(NAME, OLD) is None
    assert listed(known, NEW) == [PUSHED]


def test_refresh_in_a_listing_does_not_hide_changes_of_the_next(known: KnownObjects) -> None:
    known.begin_listing()
    known.refresh(NAME, OLD)
    assert known.add_page([NEW]) == known.end_listing() == []
    assert listed(known, NEW) == [PUSHED]


def test_own_create_after_its_page_is_not_reported_as_deleted(empty: KnownObjects) -> None:
    empty.begin_listing()
    assert empty.add_page([]) == []
    empty.add_own_write(NAME.key)
    assert empty.end_listing() == []
    assert listed(empty) == [DELETED], "the next listing must look for it"


def test_own_recreation_after_its_page_is_not_reported_as_deleted(known: KnownObjects) -> None:
    known.begin_listing()
    assert known.add_page([]) == []
    known.add_own_write(NAME.key)
    assert known.end_listing() == []
    assert listed(known, NEW) == [PUSHED]


def test_own_push_before_its_page_is_not_reported_as_created(known: KnownObjects) -> None:
    known.begin_listing()
    known.add_own_write(NAME.key)
    assert known.add_page([NEW]) == [PUSHED]
    assert known.end_listing() == []


def test_own_create_that_is_missing_in_the_next_listing_was_deleted(empty: KnownObjects) -> None:
    empty.add_own_write(NAME.key)
    assert listed(empty) == [DELETED]


def test_own_write_of_a_known_version_hides_no_change(known: KnownObjects) -> None:
    known.add_own_write(NAME.key)
    assert listed(known, OLD) == []
    known.begin_listing()
    assert known.add_page([OLD]) == []
    known.add_own_write(NAME.key)
    assert known.end_listing() == []
    assert listed(known, NEW) == [PUSHED]
