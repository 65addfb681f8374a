"""Limits on calls: the calls that are rejected, and those that still succeed."""

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import BIN, StartDaemon, both_engines, refusal
from tests.fixtures.s3 import CREDENTIALS, free_port, make_bucket
from tests.fixtures.tls import StartTlsDaemon
from tests.integration.fixtures.proxy import StartProxy, say_nothing
from tests.integration.fixtures.wire import DEAF_OPENING, call_frames
from tests.patience import PATIENCE, eventually, eventually_async

DETAILS = "grpc-status-details-bin"


@both_engines
async def test_calls_beyond_the_limit_are_refused_at_once_and_health_answers(
    start_daemon: StartDaemon, start_proxy: StartProxy, s3_endpoint: str
) -> None:
    proxy = start_proxy(s3_endpoint.removeprefix("http://"))
    bucket = make_bucket(s3_endpoint)
    flags = ("--s3", bucket.name, "--s3-endpoint", f"http://{proxy.address}")
    daemon = start_daemon(*flags, "--memory", "--max-calls", "10", env=CREDENTIALS)
    proxy.set_faults(then=say_nothing)
    request = pb.GetEnvelopeRequest(index_name="i")
    async with grpc.aio.insecure_channel(daemon.address) as channel:
        get: Any = EnvelopeServiceStub(channel).GetEnvelope
        calls = [get(request, timeout=PATIENCE) for _ in range(25)]
        await eventually_async(lambda: sum(call.done() for call in calls) == 15)
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="max_calls"):
            await get(request, timeout=PATIENCE)
        for call in calls:
            call.cancel()
        ended = Counter([(await call.code()).name for call in calls])
    assert ended == {"RESOURCE_EXHAUSTED": 15, "CANCELLED": 10}
    proxy.set_faults()
    proxy.cut()


def test_unread_answer_counts_as_a_call(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory", "--max-calls", "4")
    with kekd.Client(daemon.address) as client:
        client.push_index_kms(None, "i", BLOB)

    def is_refused() -> bool:
        with kekd.Client(daemon.address) as client:
            try:
                client.get_index_kms(None, "i")
            except kekd.ResourceExhaustedError:
                return True
        return False

    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(daemon.socket))
        path = b"/kekd.v1.EnvelopeService/GetEnvelope"
        calls = (call_frames(stream, path, b"\x12\1i") for stream in range(1, 9, 2))
        deaf.sendall(DEAF_OPENING + b"".join(calls))
        eventually(is_refused)
    eventually(lambda: not is_refused())


@both_engines
def test_rate_limited_call_gets_the_time_to_retry(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon("--memory", "--max-rate", "0.2", "--max-burst", "5")
    with grpc.insecure_channel(daemon.address) as channel:
        get: Any = EnvelopeServiceStub(channel).GetEnvelope

        def failed_get() -> Any:
            with pytest.raises(grpc.RpcError) as failed:
                get(pb.GetEnvelopeRequest(index_name="i"))
            return failed.value

        answered = 0
        while (refused := failed_get()).code() is grpc.StatusCode.NOT_FOUND:
            answered += 1
        assert answered >= 5
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        [sent] = [entry.value for entry in refused.trailing_metadata() if entry.key == DETAILS]
        status = status_pb2.Status.FromString(sent)
        info, hint = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        status.details[0].Unpack(info)
        status.details[1].Unpack(hint)
        assert info.reason == "RATE_LIMITED"
        wait = hint.retry_delay.ToMicroseconds() / 1e6
        assert 0 < wait <= 5
        time.sleep(wait)  # as a caller does
        assert failed_get().code() is grpc.StatusCode.NOT_FOUND


def test_identity_at_its_rate_limit_does_not_limit_another(
    start_tls_daemon: StartTlsDaemon,
) -> None:
    daemon = start_tls_daemon("--memory", "--max-rate", "0.01", "--max-burst", "3")
    with (
        kekd.Client(daemon.address, tls=daemon.tls) as one,
        kekd.Client(daemon.daemon.address) as other,
    ):
        for client in (one, other):
            for _ in range(3):
                client.push_index_kms(None, "i", BLOB)
            with pytest.raises(kekd.ResourceExhaustedError) as caught:
                client.push_index_kms(None, "i", BLOB)
            assert caught.value.reason == "RATE_LIMITED"


def test_old_connection_ends_without_a_failed_call(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon("--memory", "--max-connection-age", "1")
    with grpc.insecure_channel(daemon.address) as channel:
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        push: Any = EnvelopeServiceStub(channel).PushEnvelope

        def has_reconnected_twice() -> bool:
            push(pb.PushEnvelopeRequest(index_name="i", blob=pb.KMSBlob(provider="none")))
            return states.count(grpc.ChannelConnectivity.READY) >= 3

        eventually(has_reconnected_twice)


@pytest.mark.slow  # gRPC waits 20 s for the answer to a ping
def test_connections_of_vanished_machines_are_closed(start_daemon: StartDaemon) -> None:
    port = free_port()
    start_daemon("--memory", "--listen", f"127.0.0.1:{port}", "--keepalive", "1")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as dead:
        dead.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        while dead.recv(4096):  # reads pings and never answers them
            pass


@pytest.mark.parametrize("flag", ["--max-connection-age", "--keepalive"])
def test_native_has_no_limits_on_connections(tmp_path: Path, flag: str) -> None:
    listen = ("--listen", f"unix:{tmp_path}/run/kekd.sock", "--engine", "native")
    said = refusal(BIN / "kekd", *listen, "--memory", flag, "5")
    assert f"{flag.removeprefix('--').replace('-', '_')} (from {flag}): not supported by" in said


@both_engines
def test_headers_beyond_the_limit_are_refused(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory")
    with grpc.insecure_channel(daemon.address) as channel:
        get: Any = EnvelopeServiceStub(channel).GetEnvelope
        long = (("x-long", "x" * 100_000),)
        with pytest.raises(grpc.RpcError) as refused:
            get(pb.GetEnvelopeRequest(index_name="i"), metadata=long, timeout=PATIENCE)
        assert refused.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        with pytest.raises(grpc.RpcError) as served:
            get(pb.GetEnvelopeRequest(index_name="i"), timeout=PATIENCE)
        assert served.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.fixture
def idle() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@both_engines
def test_thousand_idle_connections_block_no_call(
    start_daemon: StartDaemon, idle: contextlib.ExitStack
) -> None:
    daemon = start_daemon("--memory")
    for _ in range(1000):
        connection = idle.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(str(daemon.socket))
    with kekd.Client(daemon.address, timeout=PATIENCE) as client:
        client.create_index_kms(None, "i", BLOB)
        assert client.get_index_kms(None, "i") == BLOB
