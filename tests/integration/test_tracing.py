"""Traces: each call has a span in its caller's trace, and below it one of its store."""

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.observability import tracing
from kekd_server.observability.tracing import Tracing
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon, both_engines
from tests.fixtures.s3 import free_port
from tests.integration.fixtures.broken_disk import BrokenDisk
from tests.integration.fixtures.otlp import Receiver, attributes, otlp_receiver
from tests.integration.fixtures.watch import OpenWatch
from tests.patience import PATIENCE, eventually

__all__ = ["otlp_receiver"]

CREATE, GET = "kekd.v1.EnvelopeService/CreateEnvelope", "kekd.v1.EnvelopeService/GetEnvelope"
TRACE, CALLER = bytes(range(16)), bytes(range(8))
PARENT = (("traceparent", f"00-{TRACE.hex()}-{CALLER.hex()}-01"),)
CANARY = "a-name-that-only-its-callers-know"


@pytest.fixture
def traced(start_daemon: StartDaemon, otlp: Receiver, tmp_path: Path) -> Daemon:
    return start_daemon("--disk", str(tmp_path / "keystore"), env=otlp.env)


@pytest.fixture
def stub(traced: Daemon) -> Iterator[Any]:
    with grpc.insecure_channel(traced.address, [("grpc.enable_retries", 0)]) as channel:
        yield EnvelopeServiceStub(channel)


def create(index: str) -> pb.CreateEnvelopeRequest:
    blob = pb.KMSBlob(provider="aws-kms", key_id=CANARY, wrapped_kek=CANARY.encode(), version=1)
    return pb.CreateEnvelopeRequest(index_name=index, blob=blob)


@both_engines
def test_call_is_a_span_of_its_callers_trace_with_a_child_for_the_store(
    stub: Any, otlp: Receiver, tmp_path: Path
) -> None:
    stub.CreateEnvelope(create(CANARY), metadata=PARENT)
    call, work = otlp.wait_for(CREATE), otlp.wait_for("store create")
    assert (call.trace_id, call.parent_span_id) == (TRACE, CALLER)
    assert (work.trace_id, work.parent_span_id) == (TRACE, call.span_id)
    assert call.kind == Span.SPAN_KIND_SERVER
    assert call.start_time_unix_nano <= work.start_time_unix_nano
    assert work.end_time_unix_nano <= call.end_time_unix_nano
    store = f"disk:{tmp_path}/keystore"
    assert attributes(call) == {
        "rpc.system": "grpc",
        "rpc.service": "kekd.v1.EnvelopeService",
        "rpc.method": "CreateEnvelope",
        "rpc.grpc.status_code": 0,
        "kekd.store": store,
    }
    assert attributes(work) == {"kekd.store": store, "kekd.operation": "create"}


@both_engines
def test_span_of_a_denied_call_has_its_code_and_no_error(stub: Any, otlp: Receiver) -> None:
    with pytest.raises(grpc.RpcError):
        stub.GetEnvelope(pb.GetEnvelopeRequest(index_name=CANARY), metadata=PARENT)
    call, work = otlp.wait_for(GET), otlp.wait_for("store get")
    assert attributes(call)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert call.status.code == Status.STATUS_CODE_UNSET
    assert attributes(work)["error.type"] == "ENVELOPE_NOT_FOUND"


def test_span_of_a_failed_store_operation_is_an_error(
    start_daemon: StartDaemon, otlp: Receiver, broken_disk: BrokenDisk
) -> None:
    broken_disk.fails()
    stores = ("--memory", "--disk", str(broken_disk.keystore))
    daemon = start_daemon(*stores, env=otlp.env | broken_disk.env)
    with grpc.insecure_channel(daemon.address, [("grpc.enable_retries", 0)]) as channel:
        stub: Any = EnvelopeServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            stub.GetEnvelope(pb.GetEnvelopeRequest(index_name=CANARY))
    call = otlp.wait_for(GET)
    assert call.status.code == Status.STATUS_CODE_ERROR
    assert attributes(call)["rpc.grpc.status_code"] == grpc.StatusCode.UNAVAILABLE.value[0]


@both_engines
def test_call_without_a_trace_starts_one(stub: Any, otlp: Receiver) -> None:
    stub.CreateEnvelope(create("i"))
    call = otlp.wait_for(CREATE)
    assert call.trace_id
    assert not call.parent_span_id


def test_call_that_is_not_sampled_is_not_traced(stub: Any, otlp: Receiver) -> None:
    unsampled = (("traceparent", f"00-{TRACE.hex()}-{CALLER.hex()}-00"),)
    stub.CreateEnvelope(create("i"), metadata=unsampled)
    stub.GetEnvelope(pb.GetEnvelopeRequest(index_name="i"))
    otlp.wait_for(GET)
    assert TRACE not in {span.trace_id for span in otlp.spans}


@both_engines
def test_concurrent_calls_keep_their_own_traces(stub: Any, otlp: Receiver) -> None:
    traces = [number.to_bytes(16) for number in range(1, 101)]
    under_way = [
        stub.CreateEnvelope.future(
            create(f"i-{trace.hex()}"),
            metadata=(("traceparent", f"00-{trace.hex()}-{CALLER.hex()}-01"),),
        )
        for trace in traces
    ]
    for call in under_way:
        call.result(PATIENCE)
    eventually(lambda: len(otlp.spans) == 200)
    calls = {span.span_id: span.trace_id for span in otlp.spans if span.name == CREATE}
    works = {span.parent_span_id: span.trace_id for span in otlp.spans if span.name != CREATE}
    assert calls == works
    assert sorted(calls.values()) == traces


def test_batch_is_one_span(stub: Any, otlp: Receiver) -> None:
    blob = pb.KMSBlob(provider="none")
    pushes = [pb.EnvelopePush(index_name=f"i-{number}", blob=blob) for number in range(100)]
    stub.BatchPushEnvelopes(pb.BatchPushEnvelopesRequest(pushes=pushes))
    otlp.wait_for("kekd.v1.EnvelopeService/BatchPushEnvelopes")
    assert len(otlp.spans) == 1


def test_watch_is_a_span_when_it_ends(
    traced: Daemon, open_watch: OpenWatch, otlp: Receiver
) -> None:
    open_watch(traced).call.cancel()
    watched = otlp.wait_for("kekd.v1.EnvelopeService/WatchEnvelopes")
    assert attributes(watched)["rpc.grpc.status_code"] == grpc.StatusCode.CANCELLED.value[0]


def test_trace_contains_no_index_name_and_no_key(traced: Daemon, stub: Any, otlp: Receiver) -> None:
    for _ in range(2):
        with grpc.insecure_channel(traced.address):
            try:
                stub.CreateEnvelope(create(CANARY))
            except grpc.RpcError:
                break
    assert traced.stop() == 0
    assert len([span for span in otlp.spans if span.name == CREATE]) == 2
    sent = b"".join(request.SerializeToString() for request in otlp.received)
    assert CANARY.encode() not in sent


def test_pending_spans_are_sent_at_shutdown(start_daemon: StartDaemon, otlp: Receiver) -> None:
    daemon = start_daemon("--memory", env=otlp.env | {"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)
    assert otlp.spans == []
    assert daemon.stop() == 0
    otlp.wait_for(CREATE)


def test_hung_receiver_delays_neither_calls_nor_shutdown(
    start_daemon: StartDaemon,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        env["OTEL_EXPORTER_OTLP_TIMEOUT"] = "3600"
        daemon = start_daemon("--memory", env=env)
        with kekd.Client(daemon.address) as client:
            for _ in range(20):
                client.push_index_kms(None, "i", BLOB, timeout=PATIENCE)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=PATIENCE) == 0


def test_otel_service_name_overrides_the_default(
    start_daemon: StartDaemon, otlp: Receiver, traced: Daemon, stub: Any
) -> None:
    stub.CreateEnvelope(create("i"))
    otlp.wait_for(CREATE)
    assert otlp.resource["service.name"] == "kekd"
    otlp.received.clear()
    named = start_daemon("--memory", name="named", env=otlp.env | {"OTEL_SERVICE_NAME": "keys"})
    with kekd.Client(named.address) as client:
        client.create_index_kms(None, "i", BLOB)
    otlp.wait_for(CREATE)
    assert otlp.resource["service.name"] == "keys"


@pytest.mark.parametrize("env", [{}, {"OTEL_TRACES_EXPORTER": "none"}], ids=["unset", "none"])
def test_tracing_that_is_off_imports_nothing(
    start_daemon: StartDaemon, env: dict[str, str]
) -> None:
    imports = {"PYTHONPROFILEIMPORTTIME": "1"}
    assert " opentelemetry" not in start_daemon("--memory", env=env | imports).read_log()


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "the OTLP protocol is 'grpc'",
        ),
    ],
    ids=["exporter", "protocol"],
)
def test_unsupported_exporter_is_logged(
    start_daemon: StartDaemon, env: dict[str, str], problem: str
) -> None:
    assert f"WARNING tracing is off: {problem}" in start_daemon("--memory", env=env).read_log()


def test_missing_extra_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    assert Tracing.from_environment() is None
    assert "pip install '.[otel]'" in caplog.text
