"""Shutdown of a daemon with workers: each worker drains, and no process is left."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from tests.fixtures.daemon import Daemon, both_engines
from tests.fixtures.s3 import CREDENTIALS, free_port
from tests.fixtures.workers import StartWorkers, Workers
from tests.integration.fixtures.health import watch_health
from tests.integration.fixtures.slow_s3 import SlowS3
from tests.patience import PATIENCE, eventually

SIGNALS = [signal.SIGTERM, signal.SIGINT]
GET = pb.GetEnvelopeRequest(index_name="x")


class BusyWorkers:
    """A daemon with a call in flight and a watch of its health on each connection."""

    def __init__(self, workers: Workers, channels: list[grpc.Channel], slow_s3: SlowS3) -> None:
        self.workers = workers
        self.process = workers.process
        self.pids = list(workers.pids.values())
        self.slow_s3 = slow_s3
        self._health = [watch_health(channel) for channel in channels]
        self.calls: list[Any] = [
            EnvelopeServiceStub(channel).GetEnvelope.future(GET) for channel in channels
        ]
        eventually(lambda: slow_s3.requests == len(channels))

    def signal(self, number: signal.Signals) -> None:
        """Sends the signal, and waits until every worker refuses new calls."""
        self.process.send_signal(number)
        eventually(lambda: self.workers.daemon.read_log().count("draining") == len(self.pids))
        for health in self._health:
            assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
            health.cancel()

    def is_gone(self) -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in self.pids)


@pytest.fixture
def busy(
    request: pytest.FixtureRequest, start_workers: StartWorkers, slow_s3: SlowS3
) -> Iterator[BusyWorkers]:
    workers = start_workers(*slow_s3.flags, "--shutdown-grace", str(request.param), env=CREDENTIALS)
    with workers.channels(12) as channels:
        yield BusyWorkers(workers, channels, slow_s3)


@both_engines
@pytest.mark.parametrize("busy", [3600], indirect=True)
def test_calls_in_flight_finish_in_all_workers(busy: BusyWorkers) -> None:
    busy.signal(signal.SIGTERM)
    assert not any(call.done() for call in busy.calls)
    busy.slow_s3.answer.set()
    assert {call.result(timeout=PATIENCE).etag for call in busy.calls} == {"slow"}
    assert busy.process.wait(timeout=PATIENCE) == 0
    assert busy.is_gone()
    assert not busy.workers.daemon.socket.exists()
    assert busy.workers.daemon.read_log().endswith("INFO stopped\n")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("busy", [3600], indirect=True)
def test_worker_that_gets_two_signals_drains(busy: BusyWorkers, number: signal.Signals) -> None:
    for pid in busy.pids:  # like systemd and Ctrl-C
        os.kill(pid, number)
    busy.signal(number)
    time.sleep(0.2)
    busy.slow_s3.answer.set()
    assert {call.result(timeout=PATIENCE).etag for call in busy.calls} == {"slow"}
    assert busy.process.wait(timeout=PATIENCE) == 0


@pytest.mark.parametrize("busy", [0.2], indirect=True)
def test_calls_that_outlast_the_grace_are_cancelled(busy: BusyWorkers) -> None:
    busy.process.send_signal(signal.SIGTERM)
    ends = {call.exception(timeout=PATIENCE).code() for call in busy.calls}
    assert ends == {grpc.StatusCode.UNAVAILABLE}
    assert busy.process.wait(timeout=PATIENCE) == 0
    assert busy.is_gone()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("busy", [3600], indirect=True)
def test_second_signal_ends_all_workers_immediately(
    busy: BusyWorkers, number: signal.Signals
) -> None:
    busy.signal(number)
    busy.process.send_signal(number)
    assert busy.process.wait(timeout=PATIENCE) == -number
    assert all(call.exception(timeout=PATIENCE) for call in busy.calls)
    eventually(busy.is_gone)


@pytest.mark.parametrize("busy", [3600], indirect=True)
def test_killed_supervisor_ends_its_workers_immediately(busy: BusyWorkers) -> None:
    busy.workers.daemon.kill()
    assert all(call.exception(timeout=PATIENCE) for call in busy.calls)
    eventually(busy.is_gone)


@pytest.mark.parametrize("busy", [0], indirect=True)
def test_worker_that_does_not_end_is_killed(busy: BusyWorkers) -> None:
    os.kill(busy.pids[1], signal.SIGSTOP)
    busy.process.send_signal(signal.SIGTERM)
    assert busy.process.wait(timeout=PATIENCE) == 0
    assert busy.is_gone()
    assert busy.workers.logged("ERROR worker 2 doesn't end: killing it") == 1


def test_stop_during_a_restart_delay_is_immediate(start_workers: StartWorkers) -> None:
    workers = start_workers("--shutdown-grace", "3600")
    for restart in range(1, 5):
        workers.kill(2)
        workers.wait_for_restarts(restart)
    workers.kill(2)  # restarts after 1.6 s
    eventually(lambda: workers.logged("restarting it in 1.6 s") == 1)
    assert workers.daemon.stop() == 0
    assert workers.logged("worker 2 serves again") == 4


@pytest.fixture
def half_started(tmp_path: Path) -> Iterator[tuple[Daemon, int]]:
    """A daemon with a worker that hangs before it serves, and the pid of that worker."""
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--disk", str(tmp_path / "keystore"))
    daemon = Daemon(tmp_path / "daemon", "--workers", "2", "--shutdown-grace", "0", *listen)
    pid = daemon.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    eventually(lambda: len(children.read_text().split()) == 2)
    worker = int(children.read_text().split()[0])
    os.kill(worker, signal.SIGSTOP)
    yield daemon, worker
    daemon.kill()


def test_stop_does_not_wait_for_a_starting_worker(half_started: tuple[Daemon, int]) -> None:
    daemon, worker = half_started
    assert daemon.stop() == 0
    assert not Path(f"/proc/{worker}").exists()
    assert "kekd listens on" not in daemon.read_log()
