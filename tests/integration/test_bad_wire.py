"""Malformed requests get an error or a closed connection, and change nothing."""

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.listeners.engine import EngineName
from tests.fixtures.daemon import Daemon, both_engines
from tests.fixtures.s3 import free_port
from tests.integration.fixtures.wire import (
    CONTINUATION,
    DATA,
    HEADERS,
    OPENING,
    PREFACE,
    field,
    frame,
)
from tests.patience import PATIENCE

pytestmark = both_engines

UNREADABLE = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
]
Connect = Callable[[], socket.socket]

CANARY = b"canary"
FIELD = field(b"x", b"a" * 126)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keystore")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, keystore: Path, port: int, engine: EngineName
) -> Iterator[Daemon]:
    flags = ("--disk", str(keystore), "--listen", f"127.0.0.1:{port}")
    daemon = Daemon(tmp_path_factory.mktemp("wire"), *flags, engine=engine)
    daemon.wait()
    yield daemon
    daemon.kill()


@pytest.fixture
def daemon(running: Daemon, keystore: Path) -> Iterator[Daemon]:
    """A daemon that serves before and after the test, with unchanged envelopes."""
    stored = kekd.KMSBlob("prod", "aws", "secret", wrapped_kek=CANARY)
    with kekd.Client(running.address) as client:
        client.push_index_kms(None, "kept", stored)
        before = records(keystore)
        yield running
        assert client.get_index_kms(None, "kept") == stored
        assert records(keystore) == before
        client.push_index_kms(None, "kept", stored)
    assert running.process.poll() is None


def records(keystore: Path) -> dict[Path, bytes]:
    """Returns all files but those that the daemon changes in the background."""
    return {
        path: path.read_bytes()
        for path in keystore.rglob("*")
        if path.is_file() and path.parent.name != "locks" and "history" not in path.parts
    }


@pytest.fixture(params=["unix", "tcp"])
def connect(request: pytest.FixtureRequest, daemon: Daemon, port: int) -> Connect:
    def connect() -> socket.socket:
        if request.param == "tcp":
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(str(daemon.socket))
        return connection

    return connect


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(random.Random(7).randbytes(4096), id="random"),
        pytest.param(PREFACE[:12], id="half a preface"),
        pytest.param(bytes(2**20), id="1 MB of zeros"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="HTTP/1.1"),
        pytest.param(OPENING + random.Random(8).randbytes(4096), id="random after the preface"),
        pytest.param(OPENING + frame(DATA, 1, CANARY), id="data without a stream"),
        pytest.param(OPENING + frame(HEADERS, 1, FIELD), id="headers that break off"),
        pytest.param(OPENING + frame(HEADERS, 1, b"\xff" * 64), id="headers out of the table"),
        pytest.param(OPENING + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", id="frame of 16 MB"),
    ],
)
def test_garbage_ends_its_own_connection_only(connect: Connect, garbage: bytes) -> None:
    with connect() as connection:
        with contextlib.suppress(OSError):  # the daemon may close the connection earlier
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass


def test_many_connections_can_break_off_at_once(connect: Connect) -> None:
    connections = [connect() for _ in range(100)]
    for connection in connections:
        connection.sendall(OPENING)
    for connection in connections:
        connection.close()


def test_endless_header_takes_no_memory(connect: Connect, daemon: Daemon) -> None:
    before = resident_megabytes(daemon)
    with connect() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(OPENING + frame(HEADERS, 1, FIELD))
        for _ in range(200):
            connection.sendall(frame(CONTINUATION, 1, FIELD * 120) * 64)
    assert resident_megabytes(daemon) < before + 150  # 200 were sent


def resident_megabytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@pytest.fixture
def channel(daemon: Daemon) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(daemon.address) as channel:
        yield channel


def status_of(channel: grpc.Channel, method: str, request: bytes) -> tuple[grpc.StatusCode, str]:
    """Returns the status of a call with these bytes as its request."""
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary(method, bytes, bytes)(request, timeout=PATIENCE)
    return failed.value.code(), failed.value.details() or ""


@pytest.mark.parametrize("method", ["CreateEnvelope", "PushEnvelope", "GetEnvelope"])
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\xff" * 20 + CANARY, id="no field"),
        pytest.param(b"\x12\x20" + CANARY, id="cut short"),
        pytest.param(b"\x12\x03\xed\xa0\x80", id="name of a lone surrogate"),
    ],
)
def test_request_that_cannot_be_decoded_is_invalid(
    channel: grpc.Channel, method: str, request_bytes: bytes
) -> None:
    code, text = status_of(channel, f"/kekd.v1.EnvelopeService/{method}", request_bytes)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert CANARY.decode() not in text


@pytest.mark.parametrize(
    "method",
    ["/kekd.v1.EnvelopeService/Drop", "/kekd.v2.EnvelopeService/GetEnvelope", "/", "/x/y/z"],
)
def test_unknown_method_is_unimplemented(channel: grpc.Channel, method: str) -> None:
    code, _ = status_of(channel, method, pb.GetEnvelopeRequest().SerializeToString())
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_request_over_64_kib_is_refused(channel: grpc.Channel) -> None:
    request = pb.PushEnvelopeRequest(index_name="large", blob=pb.KMSBlob(provider="none"))
    request.blob.binding = "x" * 64 * 1024
    code, _ = status_of(
        channel, "/kekd.v1.EnvelopeService/PushEnvelope", request.SerializeToString()
    )
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_request_of_64_kib_is_read(channel: grpc.Channel) -> None:
    request = pb.GetEnvelopeRequest(index_name="x" * (64 * 1024 - 4))
    assert request.ByteSize() == 64 * 1024
    with pytest.raises(grpc.RpcError, match="index_name is too long"):
        EnvelopeServiceStub(channel).GetEnvelope(request, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("size", "natives_code"),
    [
        pytest.param(2**15, grpc.StatusCode.UNKNOWN, id="32 KiB"),  # from HTTP status 431
        pytest.param(2**18, grpc.StatusCode.UNAVAILABLE, id="256 KiB"),  # the connection ends
    ],
)
def test_metadata_over_16_kib_is_refused(
    channel: grpc.Channel, engine: EngineName, size: int, natives_code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        EnvelopeServiceStub(channel).ListEnvelopes(
            pb.ListEnvelopesRequest(), timeout=PATIENCE, metadata=(("x", "a" * size),)
        )
    expected = natives_code if engine == "native" else grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failed.value.code() is expected


@pytest.mark.parametrize("method", UNREADABLE)
def test_invalid_health_and_reflection_requests_are_logged_seldom(
    daemon: Daemon, method: str
) -> None:
    before = daemon.read_log().count("Traceback")
    with grpc.insecure_channel(daemon.address) as channel:
        call: Any = channel.stream_stream(method)
        for _ in range(20):
            with pytest.raises(grpc.RpcError):
                next(call(iter([b"\xff\xff"]), timeout=PATIENCE))
    time.sleep(0.5)  # the log has a thread of its own
    assert daemon.read_log().count("Traceback") - before <= 1
