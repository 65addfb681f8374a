"""The state of an index at a time, and the write that restores it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import kekd
from kekd._cli.history.point_in_time import Restoration, restore_all
from kekd.kek import Failure

START = datetime(2026, 11, 1, tzinfo=UTC)
ENVELOPES = {name: kekd.KMSBlob(name, "none") for name in "ab"}


def version(minute: int, event: str, name: str = "", etag: str = "") -> kekd.EnvelopeVersion:
    """A version from a minute after `START`, with the envelope of a name."""
    time = START + timedelta(minutes=minute)
    cause = kekd.VersionEvent(event)
    blob = ENVELOPES.get(name)
    return kekd.EnvelopeVersion(str(minute), cause, time, "caller", etag or name, 1, blob)


class FakeClient:
    """Has one index, and records the writes."""

    def __init__(self, versions: list[kekd.EnvelopeVersion]) -> None:
        self.versions = versions
        self.writes: list[tuple[Any, ...]] = []

    def list_index_kms(self, _location: None, _prefix: str, *, show_deleted: bool) -> list[str]:
        assert show_deleted
        return ["i"]

    def list_versions_index_kms(
        self, _location: None, _name: str, *, full: bool
    ) -> Iterator[kekd.EnvelopeVersion]:
        assert full
        return iter(self.versions)

    def delete_index_kms(self, _location: None, _name: str, *, if_etag: str) -> None:
        self.writes.append(("delete", if_etag))

    def undelete_index_kms(self, _location: None, _name: str) -> None:
        self.writes.append(("undelete",))

    def create_index_kms(self, _location: None, _name: str, blob: kekd.KMSBlob) -> None:
        self.writes.append(("create", blob.kms_name))

    def restore_index_kms(
        self, _location: None, _name: str, version_id: str, *, if_etag: str
    ) -> None:
        self.writes.append(("restore", version_id, if_etag))


def restore(
    *versions: kekd.EnvelopeVersion, minute: int = 10
) -> tuple[Restoration | Failure, list[tuple[Any, ...]]]:
    client: Any = FakeClient([*versions])
    at = START + timedelta(minutes=minute)
    (outcome,) = restore_all(client, None, at=at, prefix="", jobs=1, dry_run=False)
    return outcome, client.writes


CREATED, PUSHED = version(5, "created", "a"), version(20, "pushed", "b")
DELETED = version(30, "deleted")


@pytest.mark.parametrize(
    ("versions", "outcome", "writes"),
    [
        pytest.param([CREATED], "unchanged", [], id="not changed since"),
        pytest.param([PUSHED, CREATED], "restored", [("restore", "5", "b")], id="replaced"),
        pytest.param([DELETED, CREATED], "restored", [("undelete",)], id="deleted"),
        pytest.param(
            [DELETED, PUSHED, CREATED],
            "restored",
            [("create", "a")],
            id="replaced, then deleted",
        ),
        pytest.param(
            [version(15, "created", "a")], "deleted", [("delete", "a")], id="created later"
        ),
        pytest.param(
            [version(15, "created", "a"), version(8, "deleted"), CREATED],
            "deleted",
            [("delete", "a")],
            id="created again later",
        ),
        pytest.param(
            [version(16, "deleted"), version(15, "created", "a")],
            "unchanged",
            [],
            id="created and deleted later",
        ),
        pytest.param(
            [version(40, "restored", "a"), PUSHED, CREATED], "unchanged", [], id="restored already"
        ),
        pytest.param(
            [version(40, "restored", "a", "another"), PUSHED, CREATED],
            "unchanged",
            [],
            id="restored already, with another etag",
        ),
        pytest.param([version(10, "created", "a")], "unchanged", [], id="created at that time"),
    ],
)
def test_index_gets_the_state_that_it_had(
    versions: list[kekd.EnvelopeVersion], outcome: str, writes: list[tuple[Any, ...]]
) -> None:
    assert restore(*versions) == (Restoration("i", outcome), writes)  # type: ignore[arg-type]


@pytest.mark.parametrize("event", [event for event in kekd.VersionEvent if event != "created"])
def test_state_before_the_oldest_version_is_unknown(event: str) -> None:
    outcome, writes = restore(version(20, event, "a"))
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, kekd.VersionNotFoundError)
    assert str(outcome.error) == (
        "cannot restore index 'i' to 2026-11-01T00:10:00Z: its oldest version is from"
        " 2026-11-01T00:20:00Z; choose a later time, or import a backup"
    )
    assert writes == []


def test_index_without_versions_fails() -> None:
    outcome, _ = restore()
    assert isinstance(outcome, Failure)
    assert "the store has no version of it" in str(outcome.error)


def test_corrupt_version_is_not_restored() -> None:
    damage = kekd.CorruptEnvelopeError("damaged")
    corrupt = kekd.EnvelopeVersion("1", kekd.VersionEvent.CREATED, START, "", "c", 1, error=damage)
    assert restore(PUSHED, corrupt) == (Failure("i", damage), [])
