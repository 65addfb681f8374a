"""The health service reports the process, the daemon and each store."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import BIN, StartDaemon, both_engines, refusal
from tests.fixtures.metrics import Scraped, StartScraped
from tests.fixtures.s3 import CREDENTIALS, Bucket
from tests.integration.fixtures.health import READS, READY, Health, health_of, watch_health
from tests.integration.fixtures.proxy import Proxy, StartProxy, say_nothing
from tests.integration.fixtures.slow_s3 import SlowS3
from tests.patience import PATIENCE, eventually

pytestmark = both_engines

ALIVE = ""


class Behind(NamedTuple):
    """A daemon with a disk, and a bucket behind a proxy."""

    scraped: Scraped
    proxy: Proxy
    s3: str
    disk: str


@pytest.fixture
def behind(
    start_scraped: StartScraped, start_proxy: StartProxy, bucket: Bucket, tmp_path: Path
) -> Behind:
    proxy = start_proxy(bucket.endpoint.removeprefix("http://"))
    flags = replace(bucket, endpoint=f"http://{proxy.address}").flags
    folder = tmp_path / "keystore"
    scraped = start_scraped("--disk", str(folder), *flags, env=CREDENTIALS)
    return Behind(scraped, proxy, f"s3:{bucket.name}", f"disk:{folder}")


@pytest.fixture
def health(behind: Behind) -> Iterator[Health]:
    with health_of(behind.scraped.daemon) as health:
        eventually(lambda: health.serves(behind.s3))
        yield health


def test_list_omits_the_stores(start_daemon: StartDaemon) -> None:
    messages: Any = health_pb2  # the stubs lack the messages of List
    with grpc.insecure_channel(start_daemon("--memory").address) as channel:
        stub: Any = HealthStub(channel)
        answer = stub.List(messages.HealthListRequest(), timeout=PATIENCE)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert {service: said.status for service, said in answer.statuses.items()} == {
        ALIVE: serving,
        READY: serving,
        READS: serving,
    }


@both_engines
def test_forbidden_store_is_reported_like_an_unknown_one(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    rule = {"name": "memory", "identities": "*", "stores": "memory", "methods": "read"}
    disk = tmp_path / "keystore"
    daemon = start_daemon("--memory", "--disk", str(disk), config={"policy": [rule]})
    with health_of(daemon) as health, grpc.insecure_channel(daemon.address) as channel:
        eventually(lambda: health.serves("memory"))
        stub: Any = HealthStub(channel)
        for store in (f"disk:{disk}", "disk:/nobodys"):
            with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
                health.serves(store)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=store))
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch_health(channel, "memory")


@both_engines
def test_watches_of_health_are_limited_and_checks_are_not(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory", "--max-calls", "4")
    with health_of(daemon) as health, grpc.insecure_channel(daemon.address) as channel:
        watches = [watch_health(channel) for _ in range(3)]
        with pytest.raises(grpc.RpcError, match="too many watches: this identity"):
            watch_health(channel)
        assert health.serves()
        watches[0].cancel()

        def may_watch() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return bool(watch_health(channel))
            return False

        eventually(may_watch)


@both_engines
def test_watch_of_an_impossible_name_is_invalid(start_daemon: StartDaemon) -> None:
    with grpc.insecure_channel(start_daemon("--memory").address) as channel:
        stub: Any = HealthStub(channel)
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            next(stub.Watch(health_pb2.HealthCheckRequest(service="x" * 40_000)))


def test_healthy_daemon_reports_every_store_as_serving(behind: Behind, health: Health) -> None:
    assert all(health.serves(service) for service in (ALIVE, READY, behind.disk, behind.s3))
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        health.serves("disk:/nobodys")


def test_hung_store_is_reported_alone(behind: Behind, health: Health) -> None:
    scraped, proxy, s3, disk = behind
    proxy.set_faults(then=say_nothing)
    proxy.cut()
    eventually(lambda: not health.serves(s3))
    assert all(health.serves(service) for service in (ALIVE, READY, disk))
    assert scraped.total("kekd_store_up", store=s3) == 0
    assert scraped.total("kekd_store_up", store=disk) == 1
    with kekd.Client(scraped.daemon.address) as client:
        client.push_index_kms(None, "i", BLOB)
    proxy.set_faults()
    proxy.cut()
    eventually(lambda: health.serves(s3))
    assert scraped.total("kekd_store_up", store=s3) == 1
    eventually(lambda: is_back(scraped.daemon.read_log(), s3))
    assert f"ERROR {s3} doesn't answer: no answer in 4 s; check its" in scraped.daemon.read_log()


def is_back(log: str, store: str) -> bool:
    """Whether the log has each end of an outage, and each outage once."""
    return 0 < log.count(f"{store} doesn't answer") == log.count(f"{store} answers again")


def test_daemon_serves_with_one_store_and_not_with_none(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    daemon = start_daemon(*(f"--disk={folder}" for folder in folders))
    with health_of(daemon) as health:
        folders[0].rename(tmp_path / "away")
        eventually(lambda: not health.serves(f"disk:{folders[0]}"))
        assert health.serves(READY)
        folders[1].rename(tmp_path / "away too")
        eventually(lambda: not health.serves(READY))
        assert health.serves(ALIVE)
        (tmp_path / "away").rename(folders[0])
        eventually(lambda: health.serves(READY))
        assert not health.serves(f"disk:{folders[1]}")


def test_draining_daemon_is_alive_but_not_ready(start_daemon: StartDaemon, slow_s3: SlowS3) -> None:
    daemon = start_daemon(*slow_s3.flags, "--shutdown-grace", "3600", env=CREDENTIALS)
    with grpc.insecure_channel(daemon.address, [("grpc.enable_retries", 0)]) as channel:
        # Keeps the daemon from ending immediately.
        get = EnvelopeServiceStub(channel).GetEnvelope
        call = get.future(pb.GetEnvelopeRequest(index_name="i"))
        assert slow_s3.asked.wait(PATIENCE)
        watches = {name: watch_health(channel, name) for name in (READY, "s3:bucket")}
        alive = watch_health(channel, ALIVE)
        daemon.process.send_signal(signal.SIGTERM)
        for watch in watches.values():
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        slow_s3.answer.set()
        assert call.result(timeout=PATIENCE).etag == "slow"
        with pytest.raises(grpc.RpcError):
            next(alive)


def test_wait_checks_the_given_service(start_daemon: StartDaemon, tmp_path: Path) -> None:
    folder = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(folder))
    wait = (BIN / "kekctl", "--address", daemon.address, "wait", "--for", "0", "--service")
    assert "the daemon has no store 'disk:/typo'" in refusal(*wait, "disk:/typo")
    with kekd.Client(daemon.address) as client:
        client.wait(0, service=f"disk:{folder}")
        folder.rename(tmp_path / "away")
        with health_of(daemon) as health:
            eventually(lambda: not health.serves())
        client.wait(0, service=ALIVE)
        for service in (READY, f"disk:{folder}"):
            with pytest.raises(kekd.UnavailableError, match="doesn't serve"):
                client.wait(0, service=service)
