"""The metrics that Prometheus scrapes."""

import os
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.tcp import TcpListener
from kekd_server.observability.metrics_server import multiprocess_metrics
from kekd_server.observability.probes import Probes
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import BIN, StartDaemon, both_engines, refusal
from tests.fixtures.metrics import Scraped, StartScraped
from tests.fixtures.s3 import CREDENTIALS, Bucket, free_port
from tests.fixtures.tls import DAY, StartTlsDaemon
from tests.fixtures.workers import StartWorkers, Workers
from tests.integration.fixtures.proxy import BACKGROUND, StartProxy, s3_error
from tests.integration.fixtures.slow_s3 import SlowS3
from tests.integration.fixtures.watch import OpenWatch
from tests.patience import PATIENCE, eventually

CANARY = "a-name-that-only-its-callers-know"


def calls(scraped: Scraped, **labels: str) -> float:
    return scraped.total("kekd_calls_total", **labels)


@pytest.fixture
def scraped(start_scraped: StartScraped, tmp_path: Path) -> Scraped:
    """A daemon with a disk store, its default, and a memory store."""
    return start_scraped("--disk", str(tmp_path / "keystore"), "--memory")


@pytest.fixture
def client(scraped: Scraped) -> Iterator[kekd.Client]:
    with kekd.Client(scraped.daemon.address) as client:
        yield client


# Calls


@both_engines
def test_calls_are_counted_by_method_store_and_code(
    scraped: Scraped, client: kekd.Client, tmp_path: Path
) -> None:
    disk, memory = f"disk:{tmp_path}/keystore", kekd.StorageConfig.memory()
    client.create_index_kms(None, CANARY, BLOB)
    for _ in range(3):
        client.get_index_kms(None, CANARY)
    client.push_index_kms(memory, CANARY, BLOB)
    for refused in (
        lambda: client.get_index_kms(memory, "nothing"),
        lambda: client.create_index_kms(None, CANARY, BLOB),
    ):
        with pytest.raises(kekd.EnvelopeError):
            refused()
    counted = {
        ("CreateEnvelope", disk, "OK"): 1,
        ("CreateEnvelope", disk, "ALREADY_EXISTS"): 1,
        ("GetEnvelope", disk, "OK"): 3,
        ("GetEnvelope", "memory", "NOT_FOUND"): 1,
        ("PushEnvelope", "memory", "OK"): 1,
    }
    eventually(lambda: calls(scraped) == sum(counted.values()))
    for (method, store, code), count in counted.items():
        assert calls(scraped, method=method, store=store, code=code) == count


def test_text_of_a_client_is_never_a_label(scraped: Scraped, client: kekd.Client) -> None:
    with pytest.raises(kekd.PermissionDeniedError):
        client.get_index_kms(kekd.StorageConfig.disk(f"/{CANARY}"), CANARY)
    with pytest.raises(kekd.InvalidIndexNameError):
        client.get_index_kms(None, "")
    client.create_index_kms(None, CANARY, BLOB)
    eventually(lambda: calls(scraped) == 3)
    assert calls(scraped, store="", code="PERMISSION_DENIED") == 1
    assert calls(scraped, store="", code="INVALID_ARGUMENT") == 1
    with urllib.request.urlopen(scraped.url) as answer:
        assert CANARY not in answer.read().decode()


def test_concurrent_calls_count_for_their_own_stores(
    scraped: Scraped, client: kekd.Client, tmp_path: Path
) -> None:
    stores = (pb.StorageConfig(memory=pb.MemoryStorage()), None)
    with grpc.insecure_channel(scraped.daemon.address) as channel:
        stub: Any = EnvelopeServiceStub(channel)
        under_way = [
            stub.ListEnvelopes.future(pb.ListEnvelopesRequest(config_location=stores[number % 2]))
            for number in range(200)
        ]
        for call in under_way:
            call.result(PATIENCE)
    eventually(lambda: calls(scraped) == 200)
    assert calls(scraped, store="memory") == 100
    assert calls(scraped, store=f"disk:{tmp_path}/keystore") == 100


@both_engines
def test_every_call_is_timed(scraped: Scraped, client: kekd.Client) -> None:
    for _ in range(5):
        client.push_index_kms(None, "i", BLOB)
    timed = {"method": "PushEnvelope"}
    eventually(lambda: scraped.total("kekd_call_seconds_count", **timed) == 5)
    assert 0 < scraped.total("kekd_call_seconds_sum", **timed) < PATIENCE
    assert scraped.total("kekd_call_seconds_bucket", le="+Inf", **timed) == 5


@both_engines
def test_call_in_flight_counts_as_running_and_then_as_cancelled(
    start_scraped: StartScraped, slow_s3: SlowS3
) -> None:
    scraped = start_scraped(*slow_s3.flags, env=CREDENTIALS)
    with grpc.insecure_channel(scraped.daemon.address) as channel:
        get: Any = EnvelopeServiceStub(channel).GetEnvelope
        call = get.future(pb.GetEnvelopeRequest(index_name="i"))
        assert slow_s3.asked.wait(PATIENCE)
        eventually(lambda: scraped.total("kekd_calls_running") == 1)
        call.cancel()
        eventually(lambda: calls(scraped, method="GetEnvelope", code="CANCELLED") == 1)
    eventually(lambda: scraped.total("kekd_calls_running") == 0)


@both_engines
def test_call_to_a_hung_store_counts_as_deadline_exceeded(
    start_scraped: StartScraped, slow_s3: SlowS3
) -> None:
    scraped = start_scraped(*slow_s3.flags, env=CREDENTIALS)

    def times_out_at_the_daemon(client: kekd.Client) -> bool:
        try:
            client.get_index_kms(None, "i", timeout=3)
        except kekd.DeadlineExceededError as error:
            return error.reason == "STORE_TIMEOUT"  # empty if the client's clock was faster
        return False

    with kekd.Client(scraped.daemon.address) as client:
        eventually(lambda: times_out_at_the_daemon(client))
    eventually(lambda: calls(scraped, method="GetEnvelope", code="DEADLINE_EXCEEDED") >= 1)


def test_calls_are_counted_while_the_daemon_drains(
    start_scraped: StartScraped, slow_s3: SlowS3
) -> None:
    flags = (*slow_s3.flags, "--shutdown-grace", "3600")
    scraped = start_scraped(*flags, env=CREDENTIALS)
    with grpc.insecure_channel(scraped.daemon.address) as channel:
        get: Any = EnvelopeServiceStub(channel).GetEnvelope
        under_way = [get.future(pb.GetEnvelopeRequest(index_name="i")) for _ in range(2)]
        eventually(lambda: slow_s3.requests == len(under_way))
        scraped.daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: "draining" in scraped.daemon.read_log())
        under_way[0].cancel()
        eventually(lambda: calls(scraped, method="GetEnvelope", code="CANCELLED") == 1)
        slow_s3.answer.set()


@both_engines
def test_watch_counts_as_running_until_it_ends(
    scraped: Scraped, open_watch: OpenWatch, tmp_path: Path
) -> None:
    watch = open_watch(scraped.daemon)
    store = {"store": f"disk:{tmp_path}/keystore"}
    eventually(lambda: scraped.total("kekd_calls_running") == 1)
    eventually(lambda: scraped.total("kekd_watchers", **store) == 1)
    assert calls(scraped) == 0
    watch.call.cancel()
    eventually(lambda: calls(scraped, method="WatchEnvelopes", code="CANCELLED", **store) == 1)
    eventually(lambda: scraped.total("kekd_watchers") == scraped.total("kekd_calls_running") == 0)


# Stores


def test_store_operations_are_counted_and_timed(
    scraped: Scraped, client: kekd.Client, tmp_path: Path
) -> None:
    store = {"store": f"disk:{tmp_path}/keystore"}
    client.push_index_kms(None, "i", BLOB)
    list(client.push_many_index_kms(None, [(f"i-{number}", BLOB, None) for number in range(4)]))
    with pytest.raises(kekd.EtagMismatchError):
        client.push_index_kms(None, "i", BLOB, if_etag="another")
    with pytest.raises(kekd.EnvelopeNotFoundError):
        client.get_index_kms(None, "nothing")
    assert len(list(client.get_many_index_kms(None, ["i", "i-1", "i-2", "nothing"]))) == 4
    list(client.list_index_kms())
    client.delete_index_kms(None, "i")
    for operation, outcome, count in (
        ("put", "ok", 5),
        ("put", "ETAG_MISMATCH", 1),
        ("get", "ENVELOPE_NOT_FOUND", 2),
        ("get", "ok", 3),
        ("list", "ok", 1),
        ("delete", "ok", 1),
    ):
        labels = {"operation": operation, "outcome": outcome, **store}
        counted = partial(scraped.total, "kekd_store_operations_total", **labels)
        eventually(lambda counted=counted, count=count: counted() == count)  # type: ignore[misc]
    assert scraped.total("kekd_store_operation_seconds_count", operation="put", **store) == 6


def test_retried_s3_requests_are_counted(
    start_scraped: StartScraped, start_proxy: StartProxy, bucket: Bucket
) -> None:
    proxy = start_proxy(bucket.endpoint.removeprefix("http://"), spared=BACKGROUND)
    flags = replace(bucket, endpoint=f"http://{proxy.address}").flags
    scraped = start_scraped(*flags, env=CREDENTIALS)
    store = {"store": f"s3:{bucket.name}"}
    assert scraped.total("kekd_store_retries_total", **store) == 0
    with kekd.Client(scraped.daemon.address) as client:
        proxy.set_faults(s3_error(503, "SlowDown"))  # which botocore repeats
        client.push_index_kms(None, "i", BLOB)
        assert scraped.total("kekd_store_retries_total", **store) == 1
        proxy.set_faults(s3_error(409, "ConditionalRequestConflict"))  # which kekd does
        client.push_index_kms(None, "i", BLOB)
        assert scraped.total("kekd_store_retries_total", **store) == 2


def test_cache_hits_and_misses_are_counted(
    scraped: Scraped, client: kekd.Client, tmp_path: Path
) -> None:
    def looked_up(result: str) -> float:
        store = f"disk:{tmp_path}/keystore"
        return scraped.total("kekd_record_cache_lookups_total", store=store, result=result)

    client.push_index_kms(None, "i", BLOB)
    client.get_index_kms(None, "i")
    eventually(lambda: looked_up("miss") > 0)
    assert looked_up("hit") == 0

    def is_known() -> bool:
        """Becomes true when the record is some seconds old."""
        client.get_index_kms(None, "i")
        return looked_up("hit") > 0

    eventually(is_known)


# The daemon itself


def test_certificate_expiry_and_failed_reloads_are_reported(
    start_tls_daemon: StartTlsDaemon, tmp_path: Path
) -> None:
    port = free_port()
    daemon = start_tls_daemon("--memory", "--metrics", f"127.0.0.1:{port}")
    scraped = Scraped(daemon.daemon, port)
    expiry = "kekd_certificate_expiry_timestamp_seconds"

    def ends(file: Path) -> float:
        return scraped.total(expiry, file=str(file))

    before = ends(daemon.server.cert)
    assert before > 0
    assert ends(daemon.client_ca) > 0
    refusals = {"what": "certificates"}
    assert scraped.total("kekd_reload_failures_total", **refusals) == 0
    new = daemon.authority.issue(tmp_path / "new", ends=90 * DAY)
    new.cert.replace(daemon.server.cert)
    eventually(lambda: scraped.total("kekd_reload_failures_total", **refusals) == 1)
    assert ends(daemon.server.cert) == before
    new.key.replace(daemon.server.key)
    eventually(lambda: ends(daemon.server.cert) > before + 59 * DAY.total_seconds())


def test_build_info_has_the_versions(scraped: Scraped) -> None:
    (sample,) = scraped.families()["kekd_build_info"].samples
    assert sample.labels["grpc"] == grpc.__version__
    assert sample.value == 1


# The listener


def test_other_path_is_not_found(scraped: Scraped) -> None:
    for path in ("", "/", "/metric", "/metrics/"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(scraped.url.removesuffix("/metrics") + path)
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(scraped.url, data=b"x")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_port_in_use_is_reported_at_startup(
    scraped: Scraped, tmp_path: Path, workers: str
) -> None:
    taken = scraped.url.removeprefix("http://").removesuffix("/metrics")
    port, socket = free_port(), tmp_path / "own" / "s"
    listen = ("--listen", f"127.0.0.1:{port}", "--listen", f"unix:{socket}")
    disk = ("--disk", str(tmp_path / "own" / "keystore"))
    said = refusal(BIN / "kekd", *listen, *disk, "--workers", workers, "--metrics", taken)
    assert f"kekd: cannot serve metrics on {taken}: Address already in use" in said
    assert "give --metrics another" in said
    assert not socket.exists()


def test_metrics_on_a_unix_socket_is_rejected(tmp_path: Path) -> None:
    said = refusal(BIN / "kekd", "--memory", "--metrics", f"unix:{tmp_path}/s")
    assert "metrics (from --metrics)" in said
    assert "use HOST:PORT or [IPV6]:PORT" in said


def test_multiprocess_folder_of_another_program_is_unchanged(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    start_daemon("--memory", env={"PROMETHEUS_MULTIPROC_DIR": str(others)})
    assert list(others.iterdir()) == []


# Workers


@pytest.fixture
def scraped_workers(start_workers: StartWorkers) -> Iterator[tuple[Workers, Scraped]]:
    port = free_port()
    workers = start_workers("--metrics", f"127.0.0.1:{port}")
    yield workers, Scraped(workers.daemon, port)
    workers.daemon.stop()  # a killed daemon would leave its folder


def call_all(workers: Workers, each: int) -> None:
    """Makes calls over several connections, some of them to each worker."""
    with workers.channels(16) as channels:
        for channel in channels:
            stub: Any = EnvelopeServiceStub(channel)
            for _ in range(each):
                stub.ListEnvelopes(pb.ListEnvelopesRequest())


def test_metrics_of_workers_are_added_up(scraped_workers: tuple[Workers, Scraped]) -> None:
    workers, scraped = scraped_workers
    call_all(workers, each=3)
    eventually(lambda: calls(scraped, method="ListEnvelopes", code="OK") == 48)
    assert scraped.total("kekd_call_seconds_count", method="ListEnvelopes") == 48
    assert scraped.total("kekd_build_info") == 1
    assert scraped.total("kekd_store_up") == 1


def test_killed_worker_keeps_its_counters_and_loses_its_gauges(
    scraped_workers: tuple[Workers, Scraped], open_watch: OpenWatch, tmp_path: Path
) -> None:
    workers, scraped = scraped_workers
    call_all(workers, each=3)
    eventually(lambda: calls(scraped) == 48)
    watch = open_watch(workers.daemon)  # over the socket, which the first worker serves
    eventually(lambda: scraped.total("kekd_watchers") == 1)
    keystore = tmp_path / "keystore"
    keystore.rename(tmp_path / "away")
    keystore.write_text("no folder")  # so that the worker can't be replaced yet
    workers.kill(1)
    watch.failure()
    eventually(lambda: scraped.total("kekd_watchers") == 0)
    keystore.unlink()
    (tmp_path / "away").rename(keystore)
    workers.wait_for_restarts(1)
    call_all(workers, each=3)
    eventually(lambda: calls(scraped, method="ListEnvelopes", code="OK") == 96)


def test_worker_that_stops_keeps_its_last_calls(scraped_workers: tuple[Workers, Scraped]) -> None:
    workers, scraped = scraped_workers
    with kekd.Client(workers.daemon.address) as client:  # the socket, which the first worker serves
        for number in range(3):
            client.push_index_kms(None, f"i-{number}", BLOB)
    os.kill(workers.pids[1], signal.SIGTERM)
    workers.wait_for_restarts(1)
    assert calls(scraped, method="PushEnvelope", code="OK") == 3
    assert scraped.total("kekd_decisions_total", method="push", decision="allowed") == 3


def test_missing_folder_for_the_metrics_of_workers_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    listener = TcpListener("127.0.0.1", free_port())
    metrics = multiprocess_metrics(listener, Probes(), None, workers=2, stores=[])
    with pytest.raises(ListenError, match="set TMPDIR to a folder"), metrics:
        pass


def test_metrics_files_of_workers_are_private_and_removed_at_the_end(
    start_workers: StartWorkers, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    workers = start_workers("--metrics", f"127.0.0.1:{free_port()}", env={"TMPDIR": str(temporary)})
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.glob("counter_*.db"))) == 2
    workers.daemon.stop()
    assert list(temporary.iterdir()) == []
