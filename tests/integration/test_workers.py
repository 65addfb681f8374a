"""A daemon with workers: the distribution of connections, and the end of a worker."""

import os
import resource
import signal
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

import kekd
from kekd._transport import channel
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.daemon_pb2 import GetStatusRequest
from kekd_proto.v1.daemon_pb2_grpc import DaemonServiceStub
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import both_engines
from tests.fixtures.forgetful_s3 import StartForgetful
from tests.fixtures.s3 import CREDENTIALS, Bucket
from tests.fixtures.workers import OWN_CONNECTION, StartWorkers, Workers
from tests.patience import PATIENCE, eventually


@both_engines
def test_connections_are_spread_over_workers(workers: Workers) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(
                socket.create_connection(("127.0.0.1", workers.port), timeout=PATIENCE)
            )
        eventually(lambda: sum(workers.connections().values()) == 200)
        assert min(workers.connections().values()) > 50


def test_supervisor_does_not_import_grpc(workers: Workers) -> None:
    mapped = [
        Path(f"/proc/{pid}/maps").read_text() for pid in (workers.process.pid, workers.pids[1])
    ]
    assert ["cygrpc" in maps for maps in mapped] == [False, True]


def test_concurrent_create_over_all_workers_has_one_winner(workers: Workers) -> None:
    creators, names = 64, [f"index-{number}" for number in range(50)]
    start = threading.Barrier(creators)
    refusals = set()

    def create(creator: int, channel: grpc.Channel) -> list[str]:
        stub, won = EnvelopeServiceStub(channel), []
        blob = pb.KMSBlob(provider="none", kms_name=f"creator-{creator}", version=1)
        for name in names:
            start.wait()
            try:
                stub.CreateEnvelope(pb.CreateEnvelopeRequest(index_name=name, blob=blob))
            except grpc.RpcError as error:
                refusals.add(error.code())
            else:
                won.append(name)
        return won

    with workers.channels(creators) as channels, ThreadPoolExecutor(creators) as threads:
        won = list(threads.map(create, range(creators), channels))
    assert refusals == {grpc.StatusCode.ALREADY_EXISTS}
    assert Counter(name for of_one in won for name in of_one) == Counter(names)
    winner = {name: f"creator-{creator}" for creator, of_one in enumerate(won) for name in of_one}
    with kekd.Client(workers.address) as client:
        assert {name: client.get_index_kms(None, name).kms_name for name in names} == winner


def test_write_of_one_worker_is_read_by_the_others_immediately(workers: Workers) -> None:
    with workers.channels(16) as channels:
        stubs = [EnvelopeServiceStub(channel) for channel in channels]
        for version, writer in enumerate(stubs, start=1):
            blob = pb.KMSBlob(provider="none", version=version)
            writer.PushEnvelope(pb.PushEnvelopeRequest(index_name="i", blob=blob))
            request = pb.GetEnvelopeRequest(index_name="i")
            assert {stub.GetEnvelope(request).blob.version for stub in stubs} == {version}


@both_engines
def test_killed_worker_is_replaced_without_a_failed_call(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each client gets its own connection, like a separate process.
    monkeypatch.setattr(channel, "_OPTIONS", (*channel._OPTIONS, OWN_CONNECTION[0]))
    over = threading.Event()
    addresses = [workers.address] * 12 + [workers.daemon.address] * 4
    connected = threading.Barrier(len(addresses) + 1, timeout=PATIENCE)

    def create(number: int, address: str) -> list[str]:
        created: list[str] = []
        with kekd.Client(address, timeout=PATIENCE) as client:
            client.wait()
            connected.wait()
            while not over.wait(0.01):
                created.append(f"{number}-{len(created)}")
                client.create_index_kms(None, created[-1], BLOB)
        return created

    with ThreadPoolExecutor(16) as threads:
        creators = [
            threads.submit(create, number, address) for number, address in enumerate(addresses)
        ]
        try:
            connected.wait()
            for restarts, number in enumerate((1, 2, 1, 2), start=1):
                # Its connections move to the other worker, and stay there.
                workers.wait_for_connections(number)
                before = workers.pids
                workers.kill(number)
                workers.wait_for_restarts(restarts)
                assert {worker for worker in before if workers.pids[worker] != before[worker]} == {
                    number
                }
        finally:
            over.set()
        created = {name for creator in creators for name in creator.result()}
    with kekd.Client(workers.address) as client:
        assert set(client.list_index_kms()) == created
    assert workers.logged(r"ERROR worker [12] ended with -9: restarting it in") == 4


def test_worker_that_gets_sigterm_drains_and_is_replaced(workers: Workers) -> None:
    os.kill(workers.pids[2], signal.SIGTERM)
    workers.wait_for_restarts(1)
    assert workers.logged("worker 2: draining") == 1
    assert workers.logged("worker 2 ended with 0: restarting it") == 1


def test_worker_that_keeps_ending_is_restarted_with_growing_delays(workers: Workers) -> None:
    for restart in range(1, 5):
        workers.kill(2)
        workers.wait_for_restarts(restart)
    for pause in ("0.1", "0.2", "0.4", "0.8"):
        assert workers.logged(rf"worker 2 ended with -9: restarting it in {pause} s") == 1
    assert workers.process.poll() is None


def test_worker_that_cannot_start_is_retried(workers: Workers, tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    keystore.rename(tmp_path / "away")
    keystore.write_text("no folder")
    workers.kill(2)
    eventually(
        lambda: workers.logged(r"ERROR worker 2 doesn't serve: the store at .*: restarting it") > 1
    )
    keystore.unlink()
    (tmp_path / "away").rename(keystore)
    workers.wait_for_restarts(1)


def test_supervisor_without_descriptors_continues(workers: Workers) -> None:
    pid = workers.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    workers.kill(2)
    eventually(lambda: workers.logged("worker 2 cannot be started: Too many open files") > 0)
    with kekd.Client(workers.address) as client:
        client.wait(PATIENCE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    workers.wait_for_restarts(1)


def test_log_lines_of_a_worker_have_its_number(start_workers: StartWorkers) -> None:
    workers = start_workers(workers=3)
    line = r"INFO worker [123]: serving disk:.* on .*127\.0\.0\.1"
    eventually(lambda: workers.logged(line) == 3)


def test_json_log_lines_of_a_worker_have_its_number(start_workers: StartWorkers) -> None:
    workers = start_workers("--log-format", "json")
    eventually(lambda: workers.logged('"serving .*"worker": [12]') == 2)


def test_warning_of_the_start_is_logged_once(
    start_workers: StartWorkers, bucket: Bucket, start_forgetful: StartForgetful
) -> None:
    server = start_forgetful(bucket.endpoint, "If-None-Match")
    workers = start_workers(*replace(bucket, endpoint=server.endpoint).flags, env=CREDENTIALS)
    eventually(lambda: workers.logged("worker 1: .*does not honour If-None-Match"))
    with workers.channels(8) as channels:
        for channel in channels:  # by now, each worker has the warning
            get_status = DaemonServiceStub(channel).GetStatus
            eventually(lambda: get_status(GetStatusRequest()).stores[0].warning)  # noqa: B023
    workers.process.send_signal(signal.SIGTERM)
    workers.process.wait(PATIENCE)
    assert workers.logged("does not honour If-None-Match") == 1
