"""The events of a watch, over both engines."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.rpc.engines import MAX_STREAMS
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon, both_engines
from tests.integration.fixtures.watch import OpenWatch, WatchEvent
from tests.integration.fixtures.wire import failure_of
from tests.patience import eventually

pytestmark = both_engines


@pytest.fixture
def daemon(memory_daemon: Daemon) -> Daemon:
    return memory_daemon


def test_watch_begins_with_started(daemon: Daemon, open_watch: OpenWatch) -> None:
    assert open_watch(daemon).started == pb.WatchStarted(store="memory", heartbeat_seconds=2)


def test_write_is_reported_with_its_kind_and_etag(
    daemon: Daemon, client: kekd.Client, open_watch: OpenWatch
) -> None:
    client.create_index_kms(None, "before", BLOB)
    watch = open_watch(daemon)
    created = client.create_index_kms(None, "i", BLOB)
    assert watch.next() == WatchEvent("created", "i", created)
    pushed = client.push_index_kms(None, "i", kekd.KMSBlob("", "none"), if_etag=created)
    assert watch.next() == WatchEvent("pushed", "i", pushed)
    client.delete_index_kms(None, "i", if_etag=pushed)
    assert watch.next() == WatchEvent("deleted", "i")


def test_call_that_changes_nothing_is_not_reported(
    daemon: Daemon, client: kekd.Client, open_watch: OpenWatch
) -> None:
    client.create_index_kms(None, "i", BLOB)
    watch = open_watch(daemon)
    with pytest.raises(kekd.EnvelopeExistsError):
        client.create_index_kms(None, "i", BLOB)
    with pytest.raises(kekd.EtagMismatchError):
        client.push_index_kms(None, "i", BLOB, if_etag="other")
    client.delete_index_kms(None, "nothing")
    client.create_index_kms(None, "last", BLOB)
    assert watch.next().name == "last"


def test_only_names_with_the_prefix_are_reported(
    daemon: Daemon, client: kekd.Client, open_watch: OpenWatch
) -> None:
    some, none = open_watch(daemon, "tenant/é"), open_watch(daemon, "tenant/é.")
    for name in ("tenant/", "Tenant/é", "tenant/é"):
        client.create_index_kms(None, name, BLOB)
    assert some.next().name == "tenant/é"
    client.create_index_kms(None, "tenant/é.x", BLOB)
    assert none.next().name == "tenant/é.x"


def test_watch_without_changes_sends_heartbeats(daemon: Daemon, open_watch: OpenWatch) -> None:
    start = time.monotonic()
    watch = open_watch(daemon)
    assert [watch.next_event() for _ in range(2)] == ["heartbeat"] * 2
    assert time.monotonic() - start > 3


def test_many_watchers_all_get_a_change(
    daemon: Daemon, client: kekd.Client, open_watch: OpenWatch
) -> None:
    watches = [open_watch(daemon) for _ in range(MAX_STREAMS)]
    names = [f"i-{number}" for number in range(20)]
    for name in names:
        client.create_index_kms(None, name, BLOB)
    for watch in watches:
        assert [watch.next().name for _ in names] == names


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (
            pb.WatchEnvelopesRequest(
                config_location=pb.StorageConfig(disk=pb.DiskStorage(path="/elsewhere"))
            ),
            "PERMISSION_DENIED",
            "STORE_NOT_CONFIGURED",
        ),
        (
            pb.WatchEnvelopesRequest(config_location=pb.StorageConfig()),
            "INVALID_ARGUMENT",
            "REQUEST_INVALID",
        ),
        (pb.WatchEnvelopesRequest(prefix="x" * 256), "INVALID_ARGUMENT", "INDEX_NAME_INVALID"),
    ],
)
def test_invalid_watch_request_is_refused(
    stub: Any, request_: pb.WatchEnvelopesRequest, code: str, reason: str
) -> None:
    failed, info = failure_of(lambda request: next(stub.WatchEnvelopes(request)), request_)
    assert (failed, info.reason) == (code, reason)


def test_watch_request_that_is_no_message_is_refused(daemon: Daemon) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        watch: Any = channel.unary_stream("/kekd.v1.EnvelopeService/WatchEnvelopes")
        with pytest.raises(grpc.RpcError) as refused:
            next(watch(b"\xff"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("grace", ["0", "3600"])
def test_shutdown_ends_a_watch_and_is_not_delayed_by_it(
    start_daemon: StartDaemon, open_watch: OpenWatch, tmp_path: Path, grace: str
) -> None:
    flags = ("--memory", "--disk", str(tmp_path / "keystore"), "--shutdown-grace", grace)
    daemon = start_daemon(*flags)
    watches = [open_watch(daemon), open_watch(daemon, memory=pb.MemoryStorage())]
    assert daemon.stop() == 0
    for watch in watches:
        failure: Any = watch.failure()
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert failure.details().startswith("the daemon is shutting down: ")
    assert "cancelling" not in daemon.read_log()
    assert "Traceback" not in daemon.read_log()


def test_cancelled_watches_leave_nothing_behind(
    start_daemon: StartDaemon, open_watch: OpenWatch, tmp_path: Path
) -> None:
    # With a history, the daemon itself watches.
    daemon = start_daemon("--disk", str(tmp_path / "keystore"), "--history-versions", "0")

    def notifiers() -> int:
        found = 0
        for descriptor in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                found += descriptor.readlink().name == "anon_inode:inotify"
        return found

    assert notifiers() == 0
    for _ in range(3):
        watches = [open_watch(daemon) for _ in range(5)]
        assert notifiers() == 1
        for watch in watches:
            assert notifiers() == 1
            watch.call.cancel()
        eventually(lambda: notifiers() == 0)
    assert "Traceback" not in daemon.read_log()
