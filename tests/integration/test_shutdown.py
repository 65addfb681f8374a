"""Shutdown: calls in flight finish within the grace period, and are cut after it."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.listeners.engine import EngineName
from tests.fixtures.daemon import Daemon, StartDaemon, both_engines
from tests.fixtures.s3 import CREDENTIALS
from tests.integration.fixtures.health import READY, watch_health
from tests.integration.fixtures.slow_s3 import SlowS3
from tests.patience import PATIENCE, eventually

pytestmark = both_engines

SIGNALS = [signal.SIGTERM, signal.SIGINT]
SAID_OF_A_CUT_CALL = {
    "grpcio": "Cancelling all calls",
    # The connection ends, which the caller's gRPC reports as either.
    "native": "gRPC server is shutting down|Stream removed",
}


class BusyDaemon:
    """A daemon with a call in flight, and a watch of its health."""

    def __init__(self, daemon: Daemon, channel: grpc.Channel, slow_s3: SlowS3) -> None:
        self.daemon = daemon
        self.process = daemon.process
        self.slow_s3 = slow_s3
        self._health = watch_health(channel)
        self.call = EnvelopeServiceStub(channel).GetEnvelope.future(
            pb.GetEnvelopeRequest(index_name="x")
        )
        assert slow_s3.asked.wait(PATIENCE)

    def signal(self, number: signal.Signals) -> None:
        """Sends the signal, and waits until the daemon refuses new calls. It may have reported
        NOT_SERVING before, if a check of S3 timed out on a busy machine.
        """
        self.process.send_signal(number)
        eventually(lambda: "draining" in self.daemon.read_log())
        assert next(self._health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        self._health.cancel()


@pytest.fixture
def busy(
    request: pytest.FixtureRequest, start_daemon: StartDaemon, slow_s3: SlowS3
) -> Iterator[BusyDaemon]:
    grace = ("--shutdown-grace", str(request.param))
    daemon = start_daemon(*slow_s3.flags, *grace, env=CREDENTIALS)
    # Without gRPC's retries, which would hide how the call ended.
    with grpc.insecure_channel(daemon.address, [("grpc.enable_retries", 0)]) as channel:
        yield BusyDaemon(daemon, channel, slow_s3)


@pytest.mark.parametrize("busy", [3600], indirect=True)
def test_call_in_flight_finishes(busy: BusyDaemon) -> None:
    busy.signal(signal.SIGTERM)
    assert not busy.call.done()
    busy.slow_s3.answer.set()
    assert busy.call.result(timeout=PATIENCE).etag == "slow"
    assert busy.process.wait(timeout=PATIENCE) == 0
    assert not busy.daemon.socket.exists()


@pytest.mark.parametrize("busy", [3600], indirect=True)
def test_new_call_during_shutdown_is_refused(busy: BusyDaemon) -> None:
    busy.signal(signal.SIGTERM)
    with (
        grpc.insecure_channel(busy.daemon.address) as channel,
        pytest.raises(grpc.RpcError) as late,
    ):
        EnvelopeServiceStub(channel).ListEnvelopes(pb.ListEnvelopesRequest(), timeout=PATIENCE)
    assert late.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("busy", [0.2], indirect=True)
def test_call_that_outlasts_the_grace_is_cancelled(busy: BusyDaemon, engine: EngineName) -> None:
    busy.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError, match=SAID_OF_A_CUT_CALL[engine]) as cut:
        busy.call.result(timeout=PATIENCE)
    assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
    busy.slow_s3.answer.set()
    assert busy.process.wait(timeout=PATIENCE) == 0
    assert not busy.daemon.socket.exists()
    assert "Traceback" not in busy.daemon.read_log()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("busy", [3600], indirect=True)
def test_second_signal_ends_the_daemon_immediately(
    busy: BusyDaemon, number: signal.Signals
) -> None:
    busy.signal(number)
    busy.process.send_signal(number)
    assert busy.process.wait(timeout=PATIENCE) == -number
    assert busy.call.exception(timeout=PATIENCE)


@pytest.mark.parametrize("number", SIGNALS)
def test_idle_daemon_stops_before_its_grace_ends(
    start_daemon: StartDaemon, number: signal.Signals
) -> None:
    daemon = start_daemon("--memory", "--shutdown-grace", "3600")
    daemon.process.send_signal(number)
    assert daemon.process.wait(timeout=PATIENCE) == 0
    assert not daemon.socket.exists()
    assert daemon.read_log().endswith("INFO stopped\n")


async def test_health_watch_does_not_delay_the_stop(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory", "--shutdown-grace", "3600")
    async with grpc.aio.insecure_channel(daemon.address) as channel:
        stub: Any = HealthStub(channel)
        health = stub.Watch(health_pb2.HealthCheckRequest(service=READY))
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        # The end of the connection can overtake an answer that isn't requested yet.
        answer = asyncio.create_task(health.read())
        await asyncio.sleep(0)
        daemon.process.send_signal(signal.SIGTERM)
        assert (await answer).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await asyncio.to_thread(daemon.process.wait, PATIENCE) == 0
