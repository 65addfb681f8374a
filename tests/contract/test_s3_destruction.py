"""A destroyed envelope leaves nothing in the bucket, also with versioning."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import pytest

from kekd_server.model.errors import (
    StoreMisconfiguredError,
    StoreUnavailableError,
    VersionNotFoundError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import Driver
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.history.version_file import VersionFile
from kekd_server.storage.s3.client import S3Client, StoredObject
from kekd_server.storage.s3.errors import ResponseLostError, S3Error
from kekd_server.storage.s3.history.kept_versions import KeptVersions
from kekd_server.storage.s3.object import AmbiguousResponseError, S3Object
from tests.contract.driver_contract import ALL, NAME
from tests.contract.history_contract import HOLD, OTHER, events_of, maintain, versions_of
from tests.contract.import_contract import past
from tests.contract.test_s3 import S3Harness, driver_of
from tests.contract.test_s3_history import HISTORY, LONGER, RECORD
from tests.fixtures.s3 import Bucket, set_versioning
from tests.fixtures.writes import create, delete, put

Statuses: TypeAlias = tuple[Literal["Enabled", "Suspended"], ...]
HOLD_KEY = f"_kekd/holds/{NAME.key}"


def destroy(driver: Driver, if_etag: str | None = None) -> Destruction:
    return driver.destroy(NAME, if_etag=if_etag, digest=lambda record: f"digest of {record!r}")


def listed(bucket: Bucket) -> list[tuple[str, str]]:
    """Returns the key and the id of each version and delete marker in the bucket."""
    pages = bucket.s3.get_paginator("list_object_versions").paginate(Bucket=bucket.name)
    return [
        (version["Key"], version["VersionId"])
        for page in pages
        for version in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
    ]


def contents(bucket: Bucket) -> list[bytes]:
    """Reads each version of each object in the bucket."""
    pages = bucket.s3.get_paginator("list_object_versions").paginate(Bucket=bucket.name)
    return [
        bucket.s3.get_object(
            Bucket=bucket.name, Key=version["Key"], VersionId=version["VersionId"]
        )["Body"].read()
        for page in pages
        for version in page.get("Versions", [])
    ]


def is_mark(key: str) -> bool:
    return key.startswith(HISTORY) and key.endswith(("-destroyed--", "/destroyed"))


def keys_without_marks(bucket: Bucket) -> list[str]:
    return [key for key, _ in listed(bucket) if not is_mark(key)]


def write_all_kinds(bucket: Bucket, statuses: Statuses) -> S3Harness:
    """Writes records of kekd and of another program, and a deletion, with each state of the
    versioning. Imports one at the end. All records start with `secret`.
    """
    harness = S3Harness(bucket, "", Retention())
    for status in (None, *statuses):
        if status:
            set_versioning(bucket, status)
        state = status or "off"
        put(harness.driver, NAME, f"secret {state} 1".encode(), if_etag=None)
        harness.write(NAME.key, f"secret {state} 2".encode())
        delete(harness.driver, NAME, if_etag=None)
        harness.driver.hold(NAME, HOLD)
        harness.driver.release(NAME)
        put(harness.driver, NAME, f"secret {state} 3".encode(), if_etag=None)
    harness.driver.import_versions(NAME, [past(1, b"secret import")])
    return harness


@pytest.mark.parametrize(
    "statuses", [(), ("Enabled",), ("Enabled", "Suspended")], ids=["off", "enabled", "suspended"]
)
def test_no_byte_of_a_destroyed_record_remains_in_the_bucket(
    bucket: Bucket, statuses: Statuses, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("--s3-server") == "seaweedfs" and "Suspended" in statuses:
        pytest.skip("SeaweedFS 4.48 refuses the etag of a version from before the suspension")
    driver = write_all_kinds(bucket, statuses).driver
    create(driver, LONGER, b"longer")
    assert any(content.startswith(b"secret") for content in contents(bucket))
    destroyed = destroy(driver)
    assert not destroyed.remaining
    assert not any(b"secret" in content for content in contents(bucket))
    keys = {key for key, _ in listed(bucket) if LONGER.key not in key and not is_mark(key)}
    assert keys <= {"_kekd/keystore", HOLD_KEY}
    assert driver.get(LONGER).record == b"longer"
    digests = {version.wrapped_kek_digest for version in destroyed.destroyed}
    for state in ("off", *statuses):
        for number in (1, 2, 3):
            assert f"digest of {f'secret {state} {number}'.encode()!r}" in digests


def test_record_without_a_history_is_destroyed(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "", Retention(versions=0)).driver
    put(driver, NAME, b"secret", if_etag=None)
    (version,) = destroy(driver).destroyed
    assert version.wrapped_kek_digest == "digest of b'secret'"
    assert keys_without_marks(bucket) == ["_kekd/keystore"]


def test_destroy_with_an_etag_succeeds_where_no_record_is(bucket: Bucket) -> None:
    set_versioning(bucket, "Enabled")
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    delete(driver, NAME, if_etag=None)
    assert len(destroy(driver, "0" * 32).destroyed) == 1


class ProtectedVersion:
    """Makes S3 refuse to remove one version."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version_id: str) -> None:
        delete_version, get_object = S3Client.delete_version, S3Client.get_object
        self.lock: dict[str, Any] = {}

        def refuse(client: S3Client, key: str, id_: str) -> None:
            if id_ == version_id:
                raise S3Error(403, "AccessDenied", "", "")
            delete_version(client, key, id_)

        def get(
            client: S3Client, key: str, max_bytes: int, *, version_id: str = ""
        ) -> StoredObject:
            return get_object(client, key, max_bytes, version_id=version_id)._replace(**self.lock)

        monkeypatch.setattr(S3Client, "delete_version", refuse)
        monkeypatch.setattr(S3Client, "get_object", get)


@pytest.mark.parametrize(
    ("lock", "advice"),
    [
        ({}, "allow the daemon s3:DeleteObjectVersion, or end what protects the version"),
        ({"retained_until": "2030-01-01T00:00:00Z"}, "Object Lock ends on 2030-01-01T00:00:00Z"),
        ({"has_legal_hold": True}, "end its legal hold"),
    ],
    ids=["denied", "locked", "legal_hold"],
)
def test_version_that_cannot_be_removed_remains_alone_with_advice(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, lock: dict[str, Any], advice: str
) -> None:
    set_versioning(bucket, "Enabled")
    driver = S3Harness(bucket, "").driver
    for record in b"1", b"2", b"3":
        put(driver, NAME, record, if_etag=None)
    ids = [version.id for version in versions_of(driver)]
    with monkeypatch.context() as patch:
        ProtectedVersion(patch, ids[1]).lock = lock
        destroyed = destroy(driver)
    (remaining,) = destroyed.remaining
    assert remaining.id == ids[1]
    assert "S3 answered AccessDenied; " in remaining.why
    assert advice in remaining.why
    assert remaining.why.endswith(", then destroy the envelope again")
    assert [version.id for version in destroyed.destroyed] == [ids[0], ids[2]]
    assert driver.list_versions(NAME, after="", limit=9)[1].id == ids[1]
    # A repetition continues.
    again = destroy(driver)
    assert [version.id for version in again.destroyed] == [ids[1]]
    assert not again.remaining
    assert {key for key, _ in listed(bucket)} == {"_kekd/keystore"}


def test_version_that_remains_is_not_the_record_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of the deletion hides it."""
    set_versioning(bucket, "Enabled")
    harness = S3Harness(bucket, "")
    create(harness.driver, NAME, b"1")
    ProtectedVersion(monkeypatch, versions_of(harness.driver)[0].id)
    destroy(harness.driver)
    assert harness.read(NAME.key) is None


@pytest.mark.parametrize("status", [None, "Enabled"])
@pytest.mark.parametrize("record", [b"rival", b"1"], ids=["other", "same"])
def test_record_that_is_written_during_a_destruction_remains_and_is_reported(
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    status: Literal["Enabled"] | None,
    record: bytes,
) -> None:
    if status:
        set_versioning(bucket, status)
    harness = S3Harness(bucket, "")
    create(harness.driver, NAME, b"1")
    delete = S3Object.delete

    def delete_before_a_rival_writes(target: S3Object, if_etag: str) -> str:
        deletion_id = delete(target, if_etag)
        harness.write(NAME.key, record)
        return deletion_id

    monkeypatch.setattr(S3Object, "delete", delete_before_a_rival_writes)
    destroyed = destroy(harness.driver)
    assert [version.wrapped_kek_digest for version in destroyed.destroyed] == ["digest of b'1'"]
    (remaining,) = destroyed.remaining
    assert "written during the destruction; destroy the envelope again" in remaining.why
    assert harness.read(NAME.key) == record
    assert [content for content in contents(bucket) if content in (b"1", b"rival")] == [record]


def test_record_that_is_replaced_before_the_removal_is_destroyed_too(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = S3Harness(bucket, "")
    create(harness.driver, NAME, b"1")
    delete = S3Object.delete

    def delete_after_a_rival_wrote(record: S3Object, if_etag: str) -> str:
        monkeypatch.setattr(S3Object, "delete", delete)
        harness.write(NAME.key, b"rival")
        return delete(record, if_etag)

    monkeypatch.setattr(S3Object, "delete", delete_after_a_rival_wrote)
    destroyed = destroy(harness.driver)
    assert [version.wrapped_kek_digest for version in destroyed.destroyed] == [
        "digest of b'rival'",
        "digest of b'1'",
    ]
    assert not destroyed.remaining
    assert keys_without_marks(bucket) == ["_kekd/keystore"]


def keep_after(monkeypatch: pytest.MonkeyPatch, destroy: Callable[[], Destruction]) -> None:
    """Makes the next daemon that keeps a record wait for a destruction."""
    add = KeptVersions.add

    def add_late(kept: KeptVersions, file: VersionFile, record: bytes = b"") -> None:
        monkeypatch.setattr(KeptVersions, "add", add)
        assert not destroy().remaining
        add(kept, file, record)

    monkeypatch.setattr(KeptVersions, "add", add_late)


def late_calls() -> dict[str, Callable[[Driver], object]]:
    return {
        "push": lambda driver: put(driver, NAME, b"new", if_etag=None),
        "delete": lambda driver: delete(driver, NAME, if_etag=None),
        "list": versions_of,
        "scan": lambda driver: list(driver.maintain_history()),
    }


@pytest.mark.parametrize("call", late_calls())
def test_copy_that_another_daemon_makes_after_a_destruction_does_not_stay(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    harness, other = S3Harness(bucket, ""), driver_of(bucket)
    create(harness.driver, NAME, b"1")
    harness.write(NAME.key, b"secret")
    keep_after(monkeypatch, lambda: destroy(other))
    late_calls()[call](harness.driver)
    assert not any(b"secret" in content for content in contents(bucket))
    assert b"secret" not in [
        other.get_version(NAME, version.id).record
        for version in versions_of(other)
        if not version.is_deletion
    ]


def test_record_that_is_destroyed_right_after_its_push_does_not_come_back(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, other = S3Harness(bucket, "").driver, driver_of(bucket)
    keep_after(monkeypatch, lambda: destroy(other))
    put(driver, NAME, b"secret", if_etag=None)
    assert b"secret" not in contents(bucket)
    assert versions_of(other) == []


def test_copy_of_a_daemon_that_was_killed_after_a_destruction_is_hidden_and_removed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, other = S3Harness(bucket, "").driver, driver_of(bucket)
    keep_after(monkeypatch, lambda: destroy(other))
    with monkeypatch.context() as patch:
        patch.setattr(KeptVersions, "may_have_marks", lambda _: False)
        put(driver, NAME, b"secret", if_etag=None)
    assert b"secret" in contents(bucket)
    assert versions_of(other) == []
    (copy,) = [key for key, _ in listed(bucket) if "-pushed-" in key]
    with pytest.raises(VersionNotFoundError):
        other.get_version(NAME, VersionFile(copy.rpartition("/")[2]).id)
    list(other.maintain_history())
    assert b"secret" not in contents(bucket)


def test_name_is_recreated_with_a_history_after_a_destruction_by_a_daemon_with_a_fast_clock(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    with monkeypatch.context() as patch:
        later = time.time_ns() + 3600 * 10**9
        patch.setattr(time, "time_ns", lambda: later)
        destroy(driver)
    assert driver.list(ALL, None, 9, listing="l", show_deleted=True) == []
    create(driver, NAME, b"2")
    put(driver, NAME, b"3", if_etag=None)
    assert events_of(driver) == ["pushed", "created"]
    assert events_of(driver_of(bucket)) == ["pushed", "created"]


def test_backup_of_a_destroyed_index_can_be_imported(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    destroy(driver)
    create(driver, NAME, b"2")
    driver.import_versions(NAME, [past(1, b"import")])
    assert events_of(driver) == ["created", "pushed"]


def test_import_during_a_destruction_leaves_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, other = S3Harness(bucket, "").driver, driver_of(bucket)
    create(driver, NAME, b"1")
    keep_after(monkeypatch, lambda: destroy(other))
    with pytest.raises(StoreUnavailableError, match="the index was destroyed"):
        driver.import_versions(NAME, [past(1, b"secret import")])
    assert b"secret import" not in contents(bucket)


def test_destruction_whose_response_was_lost_returns_what_it_removed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = S3Harness(bucket, "", Retention(versions=0)).driver
    create(driver, NAME, b"1")
    delete = S3Object.delete

    def lose_response(record: S3Object, if_etag: str) -> str:
        delete(record, if_etag)
        raise AmbiguousResponseError from ResponseLostError()

    monkeypatch.setattr(S3Object, "delete", lose_response)
    (version,) = destroy(driver).destroyed
    assert version.wrapped_kek_digest == "digest of b'1'"


def test_destruction_that_failed_midway_continues(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_versioning(bucket, "Enabled")
    driver = S3Harness(bucket, "").driver
    for record in b"1", b"2":
        put(driver, NAME, record, if_etag=None)
    with monkeypatch.context() as patch:
        patch.setattr(S3Client, "delete_version", _lose)
        with pytest.raises(Exception, match="no whole response"):
            destroy(driver)
    assert len(destroy(driver).destroyed) == 2
    assert {key for key, _ in listed(bucket)} == {"_kekd/keystore"}


def _lose(client: S3Client, key: str, version_id: str) -> None:
    raise ResponseLostError


def test_object_of_another_program_in_the_history_remains(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    bucket.s3.put_object(Bucket=bucket.name, Key=f"{HISTORY}notes", Body=b"x")
    (remaining,) = destroy(driver).remaining
    assert remaining == (f"{HISTORY}notes", "kekd did not make this object; remove it yourself")


def test_unknown_versioning_prevents_the_destruction_of_versions(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_versioning(bucket, "Enabled")
    harness = S3Harness(bucket, "")
    create(harness.driver, NAME, b"1")

    def deny(client: S3Client) -> str:
        raise S3Error(403, "AccessDenied", "", "")

    monkeypatch.setattr(S3Client, "get_bucket_versioning", deny)
    with pytest.raises(StoreMisconfiguredError, match="allow the daemon s3:GetBucketVersioning"):
        destroy(driver_of(bucket))
    assert harness.read(NAME.key) == b"1"


def test_s3_object_lock_is_named_with_its_end(bucket: Bucket) -> None:
    locked = replace(bucket, name=f"{bucket.name}-locked")
    bucket.s3.create_bucket(Bucket=locked.name, ObjectLockEnabledForBucket=True)
    driver = S3Harness(locked, "").driver
    create(driver, NAME, b"1")
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    bucket.s3.put_object_retention(
        Bucket=locked.name,
        Key=RECORD,
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until},
    )
    (remaining,) = destroy(driver).remaining
    assert f"Object Lock ends on {until:%Y-%m-%d}" in remaining.why


# Holds


def test_maintenance_keeps_the_expired_versions_of_a_held_index(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    for name in (NAME, OTHER):
        for number in range(5):
            put(driver, name, b"%d" % number, if_etag=None)
    driver.hold(NAME, HOLD)
    assert maintain(driver) == 2
    assert len(versions_of(driver)) == 5
    assert len(versions_of(driver, OTHER)) == 3


def test_hold_is_found_by_other_daemons_as_an_object(bucket: Bucket) -> None:
    S3Harness(bucket, "").driver.hold(NAME, HOLD)
    stored = bucket.s3.get_object(Bucket=bucket.name, Key=HOLD_KEY)["Body"].read()
    assert stored == b'{"reason": "in court", "caller": "uid:7", "time_ns": 1}'
    assert driver_of(bucket).find_hold(NAME) == HOLD


def test_damaged_hold_still_holds(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    bucket.s3.put_object(Bucket=bucket.name, Key=HOLD_KEY, Body=b"{")
    assert driver.find_hold(NAME) == Hold("its file is damaged", "", 0)


def test_hold_that_is_placed_during_a_destruction_stays(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_versioning(bucket, "Enabled")
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    driver.hold(NAME, HOLD)
    driver.release(NAME)
    delete = S3Object.delete

    def delete_before_a_hold(record: S3Object, if_etag: str) -> str:
        driver.hold(NAME, HOLD)
        return delete(record, if_etag)

    monkeypatch.setattr(S3Object, "delete", delete_before_a_hold)
    assert not destroy(driver).remaining
    assert driver.find_hold(NAME) == HOLD


def test_maintenance_yields_held_indexes_that_another_program_changed(bucket: Bucket) -> None:
    harness = S3Harness(bucket, "")
    for name in (NAME, OTHER):
        create(harness.driver, name, b"1")
    harness.driver.hold(NAME, HOLD)
    assert NAME not in list(harness.driver.maintain_history())
    for name in (NAME, OTHER):
        harness.write(name.key, b"foreign")
    steps = list(harness.driver.maintain_history())
    assert [step for step in steps if isinstance(step, IndexName)] == [NAME]


@pytest.mark.parametrize("status", [None, "Enabled"])
def test_change_of_a_held_record_by_another_program_is_noticed(
    bucket: Bucket, status: Literal["Enabled"] | None
) -> None:
    if status:
        set_versioning(bucket, status)
    harness = S3Harness(bucket, "")
    create(harness.driver, NAME, b"1")
    harness.driver.hold(NAME, HOLD)
    assert not harness.driver.notice_change(NAME)
    harness.write(NAME.key, b"foreign")
    assert harness.driver.notice_change(NAME)
    harness.remove(NAME.key)
    assert harness.driver.notice_change(NAME)
    harness.driver.hold(NAME, HOLD._replace(time_ns=time.time_ns() + 10**10))
    assert not harness.driver.notice_change(NAME)
    harness.driver.release(NAME)
    assert not harness.driver.notice_change(NAME)
