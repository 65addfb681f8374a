from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Final

import pytest

from kekd_server.model.errors import (
    OutcomeUnknownError,
    StoreMisconfiguredError,
    StoreUnavailableError,
)
from kekd_server.storage.driver import MAX_RECORD_BYTES
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import make_client
from kekd_server.storage.s3.driver import S3Driver
from tests.contract.driver_contract import (
    ALL,
    NAME,
    RETRY,
    AttemptContract,
    DriverContract,
    Harness,
)
from tests.contract.history_contract import (
    ForeignWriterContract,
    HistoryContract,
    KekdHistoryContract,
    ProtectionContract,
)
from tests.contract.import_contract import ImportContract
from tests.fixtures.forgetful_s3 import StartForgetful
from tests.fixtures.s3 import REGION, Bucket, set_versioning
from tests.fixtures.writes import create, delete, put

THREE_VERSIONS: Final = Retention(versions=3)


def fails_on_seaweedfs(
    config: pytest.Config, error: type[Exception], match: str
) -> AbstractContextManager[object]:
    if config.getoption("--s3-server") == "seaweedfs":
        return pytest.raises(error, match=match)
    return nullcontext()


class S3Harness(Harness):
    def __init__(self, bucket: Bucket, prefix: str, retention: Retention = THREE_VERSIONS) -> None:
        location = S3Location(bucket.name, prefix, REGION, bucket.endpoint)
        self.driver = S3Driver(make_client(location), location, retention=retention)
        self.driver.open(create=True)
        self._bucket = bucket
        self._folder = f"{prefix}/_catalog/config/".lstrip("/")

    def read(self, key: str) -> bytes | None:
        try:
            answer = self._bucket.s3.get_object(Bucket=self._bucket.name, Key=self._folder + key)
        except self._bucket.s3.exceptions.NoSuchKey:
            return None
        return answer["Body"].read()

    def write(self, key: str, record: bytes) -> None:
        self._bucket.s3.put_object(Bucket=self._bucket.name, Key=self._folder + key, Body=record)

    def remove(self, key: str) -> None:
        self._bucket.s3.delete_object(Bucket=self._bucket.name, Key=self._folder + key)


class TestS3Driver(
    DriverContract,
    AttemptContract,
    KekdHistoryContract,
    ForeignWriterContract,
    ProtectionContract,
    ImportContract,
):
    @pytest.fixture(params=["", "some/prefix"])
    def harness(self, bucket: Bucket, request: pytest.FixtureRequest) -> Harness:
        return S3Harness(bucket, request.param)


class TestS3DriverOnABucketWithVersioning(
    DriverContract,
    AttemptContract,
    HistoryContract,
    ForeignWriterContract,
    ProtectionContract,
    ImportContract,
):
    @pytest.fixture
    def harness(self, bucket: Bucket) -> Harness:
        set_versioning(bucket, "Enabled")
        return S3Harness(bucket, "")

    def test_create_stores_the_exact_bytes_under_the_key(  # type: ignore[override]
        self, harness: Harness, pytestconfig: pytest.Config
    ) -> None:
        """SeaweedFS can't store the longest names if the bucket has versioning."""
        with fails_on_seaweedfs(pytestconfig, OutcomeUnknownError, "n" * 247):
            super().test_create_stores_the_exact_bytes_under_the_key(harness)

    @pytest.mark.parametrize("size", [1, 2])
    def test_list_by_ranges_returns_each_name_once_and_in_order(  # type: ignore[override]
        self, harness: Harness, size: int, pytestconfig: pytest.Config
    ) -> None:
        """SeaweedFS lists `a.kms.cat.kms.cat` before `a.kms.cat` if the bucket has versioning."""
        with fails_on_seaweedfs(pytestconfig, StoreUnavailableError, "not sorted by key"):
            super().test_list_by_ranges_returns_each_name_once_and_in_order(harness, size)


class TestS3DriverOnABucketWithSuspendedVersioning(
    DriverContract,
    AttemptContract,
    KekdHistoryContract,
    ForeignWriterContract,
    ProtectionContract,
    ImportContract,
):
    @pytest.fixture
    def harness(self, bucket: Bucket) -> Harness:
        set_versioning(bucket, "Enabled")
        set_versioning(bucket, "Suspended")
        return S3Harness(bucket, "")


def test_stores_in_one_bucket_do_not_see_each_other(bucket: Bucket) -> None:
    one, other = S3Harness(bucket, "one"), S3Harness(bucket, "one/more")
    create(one.driver, NAME, b"1")
    assert other.driver.list(ALL, None, 10, listing="l") == []
    create(other.driver, NAME, b"2")
    assert one.driver.list(ALL, None, 10, listing="l") == [NAME]


def test_object_that_is_too_long_is_read_only_partly(bucket: Bucket) -> None:
    harness = S3Harness(bucket, "")
    harness.write(NAME.key, b"x" * 1_000_000)
    assert len(harness.driver.get(NAME).record) == MAX_RECORD_BYTES


@pytest.mark.parametrize(
    "location", [S3Location("bucket", region="no region!"), S3Location("bucket", endpoint="a b")]
)
def test_invalid_configuration_of_the_client_is_an_error(location: S3Location) -> None:
    with pytest.raises(StoreMisconfiguredError, match="the store s3:bucket cannot be used"):
        make_client(location)


def driver_of(bucket: Bucket, prefix: str = "") -> S3Driver:
    location = S3Location(bucket.name, prefix, REGION, bucket.endpoint)
    return S3Driver(make_client(location), location)


def empty(bucket: Bucket) -> None:
    for item in bucket.s3.list_objects_v2(Bucket=bucket.name).get("Contents", []):
        bucket.s3.delete_object(Bucket=bucket.name, Key=item["Key"])


def test_empty_keystore_is_recognized_by_its_marker(bucket: Bucket) -> None:
    with pytest.raises(StoreMisconfiguredError, match=f"no keystore in s3://{bucket.name}/a/b: "):
        driver_of(bucket, "a/b").open()
    assert driver_of(bucket, "a/b").open(create=True)
    assert not driver_of(bucket, "a/b").open()
    with pytest.raises(StoreMisconfiguredError):
        driver_of(bucket, "a").open()


def test_keystore_of_cyborgdb_is_recognized_even_when_it_becomes_empty(bucket: Bucket) -> None:
    key = f"_catalog/config/{NAME.key}"
    bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"1")
    assert not driver_of(bucket).open()
    bucket.s3.delete_object(Bucket=bucket.name, Key=key)
    assert not driver_of(bucket).open()


def test_emptied_prefix_is_no_keystore_and_is_not_created_again(bucket: Bucket) -> None:
    driver = driver_of(bucket)
    driver.open(create=True)
    create(driver, NAME, b"1")
    empty(bucket)
    with pytest.raises(StoreMisconfiguredError, match="no keystore"):
        driver.check()
    for call in (
        lambda: driver.get(NAME),
        lambda: create(driver, NAME, b"1"),
        lambda: put(driver, NAME, b"1", if_etag=None),
        lambda: delete(driver, NAME, if_etag=None),
        lambda: driver.list(ALL, None, 10, listing="l"),
    ):
        with pytest.raises(StoreMisconfiguredError, match="no keystore"):
            call()
    bucket.s3.put_object(Bucket=bucket.name, Key=f"_catalog/config/{NAME.key}", Body=b"1")
    assert driver.get(NAME).record == b"1"
    put(driver, NAME, b"2", if_etag=None)


def test_retry_of_a_conditional_put_that_was_not_applied_is_applied(bucket: Bucket) -> None:
    harness = S3Harness(bucket, "")
    etag = create(harness.driver, NAME, b"old")
    put(harness.driver, NAME, b"mine", if_etag=etag, attempt=RETRY)
    assert harness.read(NAME.key) == b"mine"


def test_retry_of_a_put_without_a_record_has_an_unknown_outcome(bucket: Bucket) -> None:
    harness = S3Harness(bucket, "")
    with pytest.raises(OutcomeUnknownError):
        put(harness.driver, NAME, b"mine", if_etag=None, attempt=RETRY)
    assert harness.read(NAME.key) is None


def keys(bucket: Bucket) -> list[str]:
    contents = bucket.s3.list_objects_v2(Bucket=bucket.name).get("Contents", [])
    return [item["Key"] for item in contents]


def test_server_that_honours_each_condition_has_no_limitations(bucket: Bucket) -> None:
    driver = S3Harness(bucket, "prefix").driver
    assert driver.find_limitations() == ""
    assert keys(bucket) == ["prefix/_kekd/keystore"]


@pytest.mark.parametrize(
    ("forgotten", "named"),
    [
        ("If-None-Match", "If-None-Match in PutObject"),
        ("If-Match", "If-Match in PutObject, If-Match in DeleteObject"),
    ],
)
def test_server_that_ignores_a_condition_is_named_with_the_operation(
    bucket: Bucket, start_forgetful: StartForgetful, forgotten: str, named: str
) -> None:
    server = start_forgetful(bucket.endpoint, forgotten)
    driver = S3Harness(replace(bucket, endpoint=server.endpoint), "").driver
    limitations = driver.find_limitations()
    assert f"the S3 server ({server.endpoint}) does not honour {named}: " in limitations
    assert keys(bucket) == ["_kekd/keystore"]


def test_conditions_are_not_tried_where_there_is_no_keystore(bucket: Bucket) -> None:
    driver = driver_of(bucket)
    with pytest.raises(StoreMisconfiguredError):
        driver.open()
    with pytest.raises(StoreMisconfiguredError, match="no keystore"):
        driver.find_limitations()
    assert keys(bucket) == []
