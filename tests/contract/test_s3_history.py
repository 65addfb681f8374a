"""The history of envelopes on S3, with and without versioning of the bucket."""

import time
from contextlib import closing
from typing import Any, Final, Literal
from unittest.mock import Mock

import pytest

from kekd_schema import Envelope, encode
from kekd_server.model.errors import (
    CorruptVersionError,
    HistoryUnavailableError,
    KekdError,
    StoreMisconfiguredError,
    StoreUnavailableError,
    VersionNotFoundError,
)
from kekd_server.model.index_name import IndexName
from kekd_server.storage.driver import Driver
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.history.version import Origin, VersionEvent
from kekd_server.storage.history.version_import import ImportedVersion
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import S3Client, make_client
from kekd_server.storage.s3.driver import S3Driver
from kekd_server.storage.s3.errors import S3Error
from kekd_server.storage.s3.signature import UnsignedRequest
from kekd_server.storage.store import Store
from kekd_server.storage.stored_envelope import StoredEnvelope
from tests.contract.driver_contract import ALL, FIRST, NAME, RETRY
from tests.contract.history_contract import OTHER, events_of, maintain, versions_of
from tests.contract.import_contract import CREATED, past, refuses_without_a_history
from tests.contract.scripted_s3 import (
    BUCKET,
    MISSING,
    PUT_DONE,
    REFUSED,
    Response,
    ScriptedS3,
    error,
    http,
    listing,
    scripted_s3,
    stored,
)
from tests.contract.test_s3 import S3Harness, driver_of
from tests.fixtures.s3 import REGION, Bucket, set_versioning
from tests.fixtures.writes import create, delete, put

__all__ = ["scripted_s3"]

RECORD = f"_catalog/config/{NAME.key}"
HISTORY = f"_kekd/history/{NAME.key}/"
LONGER = IndexName(f"{NAME.value}.kms.cat-x")
"""A name whose key starts with that of `NAME`."""
STATUSES: Final[tuple[Literal["Enabled", "Suspended"], ...]] = ("Enabled", "Suspended")
OWN = "kept under _kekd/history, 3 versions, 30 days"
ADVICE = "to keep other programs' versions too"
LOST = Response(b"", "close")
DENIED = error("403 Forbidden", "AccessDenied")


@pytest.fixture
def needs_suspension(pytestconfig: pytest.Config) -> None:
    """A server that replaces a version from before versioning was suspended."""
    if pytestconfig.getoption("--s3-server") == "seaweedfs":
        pytest.skip("SeaweedFS 4.48 refuses the etag of such a version")


def records_of(driver: Driver) -> list[bytes | None]:
    return [
        None if version.is_deletion else driver.get_version(NAME, version.id).record
        for version in versions_of(driver)
    ]


def kept_by_kekd(bucket: Bucket) -> list[str]:
    """Returns the events of the versions that kekd keeps."""
    return [key.rpartition("/")[2].split("-")[1] for key in kept_keys(bucket)]


def kept_keys(bucket: Bucket) -> list[str]:
    listed = bucket.s3.list_objects_v2(Bucket=bucket.name, Prefix="_kekd/history/")
    return [item["Key"] for item in listed.get("Contents", [])]


def run_maintenance(driver: Driver) -> int:
    return maintain(driver)


def copy(bucket: Bucket, source: str, target: str) -> None:
    """Copies an object with its metadata, as `aws s3 cp` does."""
    bucket.s3.copy_object(
        CopySource={"Bucket": bucket.name, "Key": source}, Bucket=bucket.name, Key=target
    )


# Versions that kekd keeps


def test_version_keeps_its_id_when_another_one_replaces_it(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    (created,) = versions_of(driver)
    put(driver, NAME, b"2", if_etag=None)
    assert versions_of(driver)[1] == created
    assert driver.get_version(NAME, created.id).record == b"1"


def test_record_of_another_program_keeps_its_id_when_kekd_replaces_it(bucket: Bucket) -> None:
    harness = S3Harness(bucket, "")
    harness.write(NAME.key, b"foreign")
    (found,) = versions_of(harness.driver)
    put(harness.driver, NAME, b"2", if_etag=None)
    assert versions_of(harness.driver)[1] == found


def test_write_by_a_daemon_whose_clock_is_behind_is_the_newest_version(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, other = S3Harness(bucket, "").driver, driver_of(bucket)
    create(driver, NAME, b"1")
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    put(other, NAME, b"2", if_etag=None)
    delete(other, NAME, if_etag=None)
    create(other, NAME, b"3")
    assert records_of(driver) == [b"3", None, b"2", b"1"]


def test_repeated_write_keeps_one_version(bucket: Bucket) -> None:
    driver, other = S3Harness(bucket, "").driver, driver_of(bucket)
    put(driver, NAME, b"1", if_etag=None, attempt=FIRST)
    put(other, NAME, b"1", if_etag=None, attempt=RETRY)
    assert events_of(driver) == ["pushed"]
    assert kept_by_kekd(bucket) == ["pushed"]


def test_recreation_shows_a_deletion_by_another_program(bucket: Bucket) -> None:
    harness = S3Harness(bucket, "")
    create(harness.driver, NAME, b"1")
    harness.remove(NAME.key)
    create(harness.driver, NAME, b"2")
    assert records_of(harness.driver) == [b"2", None, b"1"]


def test_earlier_record_that_another_program_restored_is_a_new_version(bucket: Bucket) -> None:
    harness = S3Harness(bucket, "")
    create(harness.driver, NAME, b"1")
    copy(bucket, RECORD, "backup")
    put(harness.driver, NAME, b"2", if_etag=None)
    copy(bucket, "backup", RECORD)
    assert events_of(harness.driver) == ["found", "pushed", "created"]
    assert records_of(harness.driver) == [b"1", b"2", b"1"]


def test_history_of_a_name_is_not_that_of_a_longer_name(bucket: Bucket) -> None:
    set_versioning(bucket, "Enabled")
    driver = S3Harness(bucket, "").driver
    create(driver, LONGER, b"longer")
    create(driver, NAME, b"1")
    assert records_of(driver) == [b"1"]
    assert len(versions_of(driver, LONGER)) == 1


def test_driver_without_a_history_keeps_nothing_and_shows_what_is_there(bucket: Bucket) -> None:
    create(S3Harness(bucket, "").driver, NAME, b"1")
    driver = S3Harness(bucket, "", Retention(versions=0)).driver
    put(driver, NAME, b"2", if_etag=None)
    assert records_of(driver) == [b"2", b"1"]
    assert kept_by_kekd(bucket) == ["created"]
    assert run_maintenance(driver) == 0


def test_scan_removes_what_expired_and_notices_deletions_by_others(bucket: Bucket) -> None:
    harness = S3Harness(bucket, "", Retention(versions=10))
    for record in b"1", b"2", b"3", b"4":
        put(harness.driver, NAME, record, if_etag=None)
    create(harness.driver, OTHER, b"1")
    harness.remove(OTHER.key)
    driver = S3Harness(bucket, "").driver
    assert run_maintenance(driver) == 1
    assert sorted(kept_by_kekd(bucket)) == ["created", "deleted", "pushed", "pushed", "pushed"]
    assert driver.history_totals().versions == 5


def test_maintenance_ends_while_other_indexes_are_written(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    for number in range(5):
        put(driver, NAME, b"%d" % number, if_etag=None)
    for number, _ in enumerate(driver.maintain_history()):
        assert number < 20
        for record in b"1", b"2", b"3", b"4":
            put(driver, IndexName(f"{number}"), record, if_etag=None)
    assert len(versions_of(driver)) == 3


def test_scan_that_failed_is_repeated_soon(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = S3Harness(bucket, "", Retention(versions=10))
    for record in b"1", b"2", b"3", b"4":
        put(harness.driver, NAME, record, if_etag=None)
    driver = S3Harness(bucket, "").driver
    with monkeypatch.context() as patch:
        patch.setattr(S3Client, "get_object", Mock(side_effect=S3Error(503, "SlowDown", "", "")))
        with pytest.raises(StoreUnavailableError):
            run_maintenance(driver)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert run_maintenance(driver) == 1
    assert run_maintenance(driver) == 0


@pytest.mark.parametrize("has_digest", [True, False])
def test_version_that_another_program_replaced_is_corrupt(
    bucket: Bucket, *, has_digest: bool
) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    put(driver, NAME, b"2", if_etag=None)
    created = versions_of(driver)[1]
    (key,) = [key for key in kept_keys(bucket) if "-created-" in key]
    metadata = {"kekd-sha256": "0" * 64} if has_digest else {}
    bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"evil", Metadata=metadata)
    with pytest.raises(CorruptVersionError, match="has another content"):
        driver.get_version(NAME, created.id)
    destroyed = driver.destroy(NAME, if_etag=None, digest=lambda record: record.decode())
    assert [version.wrapped_kek_digest for version in destroyed.destroyed] == ["2", ""]


def test_copy_without_a_digest_is_read_if_its_etag_is_that_of_the_record(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    put(driver, NAME, b"2", if_etag=None)
    (key,) = [key for key in kept_keys(bucket) if "-created-" in key]
    bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"1")
    assert records_of(driver) == [b"2", b"1"]


def test_object_with_the_last_possible_time_is_no_version(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    key = f"{HISTORY}{'f' * 16}-created-{'a' * 32}-"
    bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"x")
    put(driver, NAME, b"2", if_etag=None)
    delete(driver, NAME, if_etag=None)
    create(driver, NAME, b"3")
    assert records_of(driver) == [b"3", None, b"2", b"1"]


def test_deleted_names_are_listed_on_request(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    for name in (NAME, LONGER, OTHER):
        create(driver, name, b"1")
        if name != OTHER:
            delete(driver, name, if_etag=None)
    first = driver.list(ALL, None, 1, listing="l", show_deleted=True)
    rest = driver.list(ALL, first[0], 10, listing="l", show_deleted=True)
    assert [*first, *rest] == [NAME, LONGER, OTHER]
    assert driver.list(ALL, None, 10, listing="l") == [OTHER]


# Buckets with versioning


def test_bucket_with_versioning_keeps_its_versions_itself(bucket: Bucket) -> None:
    set_versioning(bucket, "Enabled")
    driver = S3Harness(bucket, "").driver
    for record in b"1", b"2", b"3", b"4", b"5":
        put(driver, NAME, record, if_etag=None, origin=Origin(VersionEvent.PUSHED, "uid:7"))
    assert kept_by_kekd(bucket) == []
    assert run_maintenance(driver) == 0
    assert records_of(driver) == [b"5", b"4", b"3", b"2", b"1"]
    assert {version.caller for version in versions_of(driver)} == {"uid:7"}


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of all requests to S3."""
    sent: list[str] = []
    send = S3Client._send

    def note_and_send(client: S3Client, request: UnsignedRequest, *limit: int) -> Any:
        sent.append(request.method)
        return send(client, request, *limit)

    monkeypatch.setattr(S3Client, "_send", note_and_send)
    return sent


async def test_index_with_many_versions_is_listed_in_pages_and_undeleted_with_few_requests(
    bucket: Bucket, requests: list[str]
) -> None:
    set_versioning(bucket, "Enabled")
    harness = S3Harness(bucket, "")
    records = [encode(Envelope(provider="none", kms_name=f"{number}")) for number in range(120)]
    for record in records:
        harness.write(NAME.key, record)
    with closing(Store(S3Location(bucket.name), harness.driver, threads=8)) as store:
        requests.clear()
        page = await store.versions.list(NAME, "", 1000, with_envelopes=True)
        assert (len(page.versions), page.has_more) == (100, True)
        assert len(requests) < 220
        rest = await store.versions.list(NAME, page.versions[-1].id, 1000, with_envelopes=True)
        assert (len(rest.versions), rest.has_more) == (20, False)
        found = [*page.envelopes.values(), *rest.envelopes.values()]
        names = [one.envelope.kms_name for one in found if isinstance(one, StoredEnvelope)]
        assert names == [f"{number}" for number in reversed(range(120))]
        await store.delete(NAME, if_etag=None)
        requests.clear()
        await store.versions.undelete(NAME)
        assert len(requests) < 15
    assert harness.read(NAME.key) == records[-1]


def test_deleted_names_of_a_bucket_with_versioning_are_listed_on_request(bucket: Bucket) -> None:
    set_versioning(bucket, "Enabled")
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    delete(driver, NAME, if_etag=None)
    create(driver, OTHER, b"1")
    assert driver.list(ALL, None, 10, listing="l", show_deleted=True) == [NAME, OTHER]


def test_null_version_of_another_index_is_not_found(bucket: Bucket) -> None:
    """Each object from before versioning has this id."""
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    set_versioning(bucket, "Enabled")
    driver = driver_of(bucket)
    for version_id in ("null", ""):
        with pytest.raises(VersionNotFoundError):
            driver.get_version(NAME, version_id)


@pytest.mark.usefixtures("needs_suspension")
def test_no_version_is_lost_when_versioning_changes(bucket: Bucket) -> None:
    """The driver asks only once whether the bucket has versioning."""
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"off")
    for number, status in enumerate(STATUSES * 2):
        set_versioning(bucket, status)
        for part in "ab":
            put(driver, NAME, f"{number}{part}".encode(), if_etag=None)
    expected = [b"3b", b"3a", b"2b", b"2a", b"1b", b"1a", b"0b", b"0a", b"off"]
    assert records_of(driver) == records_of(driver_of(bucket)) == expected


@pytest.mark.usefixtures("needs_suspension")
def test_deletions_while_versioning_changes_are_versions(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"off")
    for status in STATUSES:
        set_versioning(bucket, status)
        delete(driver, NAME, if_etag=None)
        create(driver, NAME, status.encode())
    expected = [b"Suspended", None, b"Enabled", None, b"off"]
    assert records_of(driver) == records_of(driver_of(bucket)) == expected


@pytest.mark.usefixtures("needs_suspension")
def test_maintenance_of_a_suspended_bucket_removes_only_what_kekd_keeps(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    set_versioning(bucket, "Enabled")
    create(driver, NAME, b"S3")
    set_versioning(bucket, "Suspended")
    driver = S3Harness(bucket, "").driver
    for record in b"1", b"2", b"3", b"4":
        put(driver, NAME, record, if_etag=None)
    assert run_maintenance(driver) == 1
    assert records_of(driver) == [b"4", b"3", b"2", b"S3"]


@pytest.mark.parametrize(
    ("statuses", "history"),
    [
        ((), f"{OWN}; enable versioning of the bucket {ADVICE}"),
        (STATUSES[:1], "kept in the bucket's versions"),
        (STATUSES, f"{OWN}; the versioning of the bucket is suspended: enable it again {ADVICE}"),
    ],
    ids=["off", "enabled", "suspended"],
)
def test_driver_describes_its_history(
    bucket: Bucket, statuses: tuple[Literal["Enabled", "Suspended"], ...], history: str
) -> None:
    for status in statuses:
        set_versioning(bucket, status)
    driver = S3Harness(bucket, "").driver
    assert driver.describe_history() == ""
    driver.find_limitations()
    assert driver.describe_history() == history


def test_driver_without_a_history_says_so(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "", Retention(versions=0)).driver
    driver.find_limitations()
    assert driver.describe_history() == "off"


# Failures


def scripted_driver(server: ScriptedS3, retention: Retention) -> S3Driver:
    location = S3Location(BUCKET, "", REGION, server.endpoint)
    return S3Driver(make_client(location), location, retention=retention)


@pytest.fixture
def driver(scripted_s3: ScriptedS3, aws_credentials: dict[str, str]) -> S3Driver:
    return scripted_driver(scripted_s3, Retention())


def methods(server: ScriptedS3) -> list[str]:
    return [
        "PUT history" if request.startswith("PUT") and HISTORY in request else request.split()[0]
        for request in server.requests
    ]


FULL = error("507 Insufficient Storage", "InsufficientStorage")
SLOW = error("503 Slow Down", "SlowDown")


@pytest.mark.parametrize(
    ("failure", "expected", "text"),
    [
        (DENIED, HistoryUnavailableError, f"index '{NAME.value}' not writable: {HISTORY}"),
        (FULL, HistoryUnavailableError, f"index '{NAME.value}' not writable: {HISTORY}"),
        (SLOW, StoreUnavailableError, "SlowDown.*retry"),
        (LOST, StoreUnavailableError, "retry"),
    ],
    ids=["denied", "full", "slow", "lost"],
)
def test_write_is_refused_if_the_version_before_it_cannot_be_kept(
    driver: S3Driver,
    scripted_s3: ScriptedS3,
    failure: Response,
    expected: type[KekdError],
    text: str,
) -> None:
    """A client retries while S3 is down, and reports a history that S3 refuses to keep."""
    for write in (
        lambda: put(driver, NAME, b"2", if_etag=None),
        lambda: delete(driver, NAME, if_etag=None),
    ):
        scripted_s3.play(
            stored(b"1", x_amz_meta_kekd_time="7", x_amz_meta_kekd_event="created"), failure
        )
        with pytest.raises(expected, match=text):
            write()
        assert set(methods(scripted_s3)) == {"GET", "PUT history"}


def test_refused_credentials_are_an_error_of_the_store(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    refused = error("403 Forbidden", "InvalidAccessKeyId")
    scripted_s3.play(stored(b"1"), refused, refused)
    with pytest.raises(StoreMisconfiguredError, match=r"InvalidAccessKeyId.*renew"):
        put(driver, NAME, b"2", if_etag=None)


def test_write_continues_without_a_version_if_the_history_is_optional(
    scripted_s3: ScriptedS3, aws_credentials: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    driver = scripted_driver(scripted_s3, Retention(is_required=False))
    scripted_s3.play(
        stored(b"1", x_amz_meta_kekd_time="7", x_amz_meta_kekd_event="created"),
        *(DENIED, PUT_DONE, PUT_DONE, listing()),
    )
    assert put(driver, NAME, b"2", if_etag=None).etag == "new"
    assert f"of index '{NAME.value}' is not up to date: _kekd/history/" in caplog.text
    assert driver.history_failures.total == 1
    assert "AccessDenied" in caplog.text


def test_version_whose_response_was_lost_is_stored_again_under_the_same_name(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    there = stored(b"1", x_amz_meta_kekd_time="7", x_amz_meta_kekd_event="created")
    scripted_s3.play(there, LOST, REFUSED, listing(), PUT_DONE, PUT_DONE, MISSING)
    put(driver, NAME, b"2", if_etag=None)
    assert methods(scripted_s3) == [
        *("GET", "PUT history", "PUT history", "GET"),
        *("PUT", "PUT history", "GET"),
    ]
    assert scripted_s3.requests[1] == scripted_s3.requests[2]
    assert scripted_s3.requests[1].endswith(f"{HISTORY}{7:016x}-created-e-")


def test_consecutive_pushes_list_no_versions_and_count_them(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = S3Harness(bucket, "").driver
    run_maintenance(driver)
    create(driver, NAME, b"1")
    with monkeypatch.context() as patch:
        patch.setattr(S3Client, "list_objects_v2", Mock(side_effect=AssertionError))
        for number in range(2, 6):
            put(driver, NAME, b"%d" % number, if_etag=None)
    assert run_maintenance(driver) == 2
    assert records_of(driver) == [b"5", b"4", b"3"]


def test_push_after_a_destruction_removes_only_what_is_older(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1")
    driver.destroy(NAME, if_etag=None, digest=lambda _: "")
    create(driver, NAME, b"2")
    put(driver, NAME, b"3", if_etag=None)
    assert records_of(driver) == [b"3", b"2"]


def test_write_whose_version_is_not_kept_afterwards_succeeds_and_is_kept_by_the_next(
    driver: S3Driver, scripted_s3: ScriptedS3, caplog: pytest.LogCaptureFixture
) -> None:
    there = stored(b"1", x_amz_meta_kekd_time="7", x_amz_meta_kekd_event="created")
    scripted_s3.play(there, PUT_DONE, listing(), PUT_DONE, DENIED)
    put(driver, NAME, b"2", if_etag=None)
    assert f"of index '{NAME.value}' is not up to date: _kekd/history/" in caplog.text
    assert driver.history_failures.total == 1
    new = stored(b"2", x_amz_meta_kekd_time="8", x_amz_meta_kekd_event="pushed")
    scripted_s3.play(new, PUT_DONE, listing(), PUT_DONE, PUT_DONE, MISSING)
    put(driver, NAME, b"3", if_etag=None)
    assert methods(scripted_s3) == ["GET", "PUT history", "GET", "PUT", "PUT history", "GET"]


@pytest.mark.parametrize(
    "refusal", [DENIED, error("501 Not Implemented", "NotImplemented"), listing()]
)
def test_bucket_whose_versioning_cannot_be_read_counts_as_one_without(
    driver: S3Driver, scripted_s3: ScriptedS3, refusal: Response
) -> None:
    scripted_s3.play(listing(), stored(b"1"), refusal, refusal, PUT_DONE)
    (version,) = driver.list_versions(NAME, after="", limit=10)
    assert (version.event, version.etag) == ("found", "e")


def test_denied_versioning_is_a_limitation(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = Mock(side_effect=S3Error(403, "AccessDenied", "", ""))
    monkeypatch.setattr(S3Client, "get_bucket_versioning", denied)
    driver = S3Harness(bucket, "").driver
    assert "allow the daemon s3:GetBucketVersioning" in driver.find_limitations()


def test_denied_listing_of_versions_names_the_permission(
    driver: S3Driver, scripted_s3: ScriptedS3
) -> None:
    enabled = http(
        "200 OK", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    scripted_s3.play(listing(), stored(b"1"), enabled, DENIED)
    with pytest.raises(StoreMisconfiguredError, match="s3:ListBucketVersions"):
        driver.list_versions(NAME, after="", limit=10)


# Versions of a backup


def test_import_without_a_history_is_refused(bucket: Bucket) -> None:
    refuses_without_a_history(lambda retention: S3Harness(bucket, "", retention).driver)


def test_import_into_the_bucket_of_the_backup_adds_nothing(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"1", origin=Origin(VersionEvent.CREATED, "uid:7"))
    put(driver, NAME, b"2", if_etag=None)
    imported = [
        ImportedVersion(
            version.time_ns // 1000 * 1000,
            Origin(version.event, version.caller),
            driver.get_version(NAME, version.id).record,
        )
        for version in versions_of(driver)
    ]
    assert driver.import_versions(NAME, imported) == []
    assert len(versions_of(driver)) == 2


def test_expired_import_is_removed_from_a_bucket_with_versioning(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_versioning(bucket, "Enabled")
    driver = S3Harness(bucket, "").driver
    create(driver, NAME, b"now")
    driver.import_versions(NAME, [past(1, b"1"), CREATED])
    assert run_maintenance(driver) == 0
    later = time.time_ns() + 31 * 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    other = driver_of(bucket)
    assert run_maintenance(other) == 2
    assert records_of(other) == [b"now"]
