"""Watches of a bucket to which other daemons may write."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.model.index_name import IndexName
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.s3 import CREDENTIALS, Bucket
from tests.integration.fixtures.proxy import BACKGROUND, Proxy, StartProxy, refuse, say_nothing
from tests.integration.fixtures.watch import OpenWatch, WatchEvent
from tests.patience import eventually

POLL = ("--s3-poll", "0.3")
NEVER = ("--s3-poll", "3600")


@pytest.fixture
def elsewhere(start_daemon: StartDaemon, bucket: Bucket) -> Iterator[kekd.Client]:
    """A second daemon on the bucket."""
    other = start_daemon(*bucket.flags, name="other", env=CREDENTIALS)
    with kekd.Client(other.address) as client:
        yield client


@pytest.fixture
def proxy(s3_endpoint: str, start_proxy: StartProxy) -> Iterator[Proxy]:
    proxy = start_proxy(s3_endpoint.removeprefix("http://"), spared=BACKGROUND)
    yield proxy
    proxy.set_faults()


@pytest.fixture
def behind_proxy(start_daemon: StartDaemon, bucket: Bucket, proxy: Proxy, tmp_path: Path) -> Daemon:
    behind = replace(bucket, endpoint=f"http://{proxy.address}")
    flags = ("--memory", "--shutdown-grace", "3600", *behind.flags, *POLL)
    return start_daemon(*flags, env=CREDENTIALS)


def test_own_writes_are_reported_immediately(
    start_daemon: StartDaemon, bucket: Bucket, open_watch: OpenWatch
) -> None:
    daemon = start_daemon(*bucket.flags, *NEVER, env=CREDENTIALS)
    watch = open_watch(daemon)
    with kekd.Client(daemon.address) as client:
        created = client.create_index_kms(None, "i", BLOB)
        assert watch.next() == WatchEvent("created", "i", created)
        pushed = client.push_index_kms(None, "i", kekd.KMSBlob("", "none"))
        assert watch.next() == WatchEvent("pushed", "i", pushed)
        client.delete_index_kms(None, "i")
        assert watch.next() == WatchEvent("deleted", "i")


def test_write_of_another_daemon_is_reported_at_a_poll(
    start_daemon: StartDaemon, bucket: Bucket, elsewhere: kekd.Client, open_watch: OpenWatch
) -> None:
    elsewhere.create_index_kms(None, "before", BLOB)
    watch = open_watch(start_daemon(*bucket.flags, *POLL, env=CREDENTIALS))
    created = elsewhere.create_index_kms(None, "i", BLOB)
    assert watch.next() == WatchEvent("created", "i", created)
    pushed = elsewhere.push_index_kms(None, "i", kekd.KMSBlob("", "none"))
    assert watch.next() == WatchEvent("pushed", "i", pushed)
    elsewhere.delete_index_kms(None, "i")
    assert watch.next() == WatchEvent("deleted", "i")


def test_envelope_that_changed_back_between_two_polls_is_reported(
    start_daemon: StartDaemon, bucket: Bucket, elsewhere: kekd.Client, open_watch: OpenWatch
) -> None:
    """The write is by a program that doesn't write to the change log."""
    etag = elsewhere.create_index_kms(None, "i", BLOB)
    where: Any = {"Bucket": bucket.name, "Key": f"_catalog/config/{IndexName('i').key}"}
    record = bucket.s3.get_object(**where)["Body"].read()
    watch = open_watch(start_daemon(*bucket.flags, "--s3-poll", "3", env=CREDENTIALS))
    bucket.s3.put_object(**where, Body=b"changed")
    time.sleep(1.1)  # S3's clock has a resolution of 1 s
    bucket.s3.put_object(**where, Body=record)
    while (event := watch.next()) != WatchEvent("pushed", "i", etag):
        assert event[:2] == ("pushed", "i")  # a poll came between the two writes


def test_unreachable_bucket_is_a_resync(
    behind_proxy: Daemon, bucket: Bucket, proxy: Proxy, open_watch: OpenWatch
) -> None:
    watch = open_watch(behind_proxy)
    proxy.set_faults(then=refuse)
    eventually(lambda: "cannot poll for changes" in behind_proxy.read_log())
    proxy.set_faults()
    assert watch.next() == WatchEvent("resync")
    bucket.s3.put_object(Bucket=bucket.name, Key="_catalog/config/i.kms.cat", Body=b"")
    assert watch.next()[:2] == ("created", "i")


def test_bucket_that_hangs_delays_no_other_store(
    behind_proxy: Daemon, proxy: Proxy, open_watch: OpenWatch
) -> None:
    stuck, memory = open_watch(behind_proxy), open_watch(behind_proxy, memory=pb.MemoryStorage())
    proxy.set_faults(then=say_nothing)
    proxy.wait_for_connection()
    with kekd.Client(behind_proxy.address) as client:
        client.create_index_kms(kekd.StorageConfig.memory(), "i", BLOB)
    assert memory.next().name == "i"
    assert behind_proxy.stop() == 0
    assert "the daemon is shutting down" in str(stuck.failure())


def test_watch_of_a_missing_bucket_fails(
    start_daemon: StartDaemon, bucket: Bucket, open_watch: OpenWatch
) -> None:
    flags = (*replace(bucket, name="nobodys").flags, *POLL, "--memory")
    daemon = start_daemon(*flags, env=CREDENTIALS)
    with pytest.raises(Exception, match="NoSuchBucket") as refused:
        open_watch(daemon)
    assert "FAILED_PRECONDITION" in str(refused.value)


def test_write_of_another_daemon_is_reported_without_a_listing(
    start_daemon: StartDaemon, bucket: Bucket, elsewhere: kekd.Client, open_watch: OpenWatch
) -> None:
    watch = open_watch(start_daemon(*bucket.flags, *NEVER, env=CREDENTIALS))
    created = elsewhere.create_index_kms(None, "i", BLOB)
    assert watch.next() == WatchEvent("created", "i", created)
    elsewhere.delete_index_kms(None, "i")
    assert watch.next() == WatchEvent("deleted", "i")


def test_write_that_was_not_logged_is_reported_at_a_listing(
    start_daemon: StartDaemon, bucket: Bucket, elsewhere: kekd.Client, open_watch: OpenWatch
) -> None:
    """As after a kill between a write and its entry in the change log."""
    elsewhere.create_index_kms(None, "i", BLOB)
    watch = open_watch(start_daemon(*bucket.flags, *POLL, env=CREDENTIALS))
    bucket.s3.delete_object(Bucket=bucket.name, Key=f"_catalog/config/{IndexName('i').key}")
    assert watch.next() == WatchEvent("deleted", "i")


def test_delete_by_another_program_of_what_was_created_since_the_last_listing_is_reported(
    start_daemon: StartDaemon, bucket: Bucket, open_watch: OpenWatch
) -> None:
    daemon = start_daemon(*bucket.flags, "--s3-poll", "1", env=CREDENTIALS)
    watch = open_watch(daemon)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)
    assert watch.next()[:2] == ("created", "i")
    bucket.s3.delete_object(Bucket=bucket.name, Key=f"_catalog/config/{IndexName('i').key}")
    while (event := watch.next())[:2] != ("deleted", "i"):
        assert event[:2] == ("pushed", "i")  # a listing came between the create and the delete
