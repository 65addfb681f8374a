"""Clients whose gRPC channels are instrumented by another library."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon, clean_environment
from tests.patience import PATIENCE, eventually

OPENTELEMETRY = """
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
GrpcInstrumentorClient().instrument()
GrpcAioInstrumentorClient().instrument()

def observed():
    return any("PushEnvelope" in span.name for span in exporter.get_finished_spans())
"""
SENTRY = """
import sentry_sdk
from sentry_sdk.integrations.grpc import GRPCIntegration

sent = []
sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1",
    traces_sample_rate=1.0,
    integrations=[GRPCIntegration()],
    before_send_transaction=lambda event, hint: sent.append(event),
)
transaction = sentry_sdk.start_transaction(name="test")
transaction.__enter__()

def observed():
    transaction.__exit__(None, None, None)
    return any("PushEnvelope" in str(span) for event in sent for span in event["spans"])
"""
DDTRACE = """
import ddtrace
from ddtrace.trace import TraceFilter, tracer

resources = []

class Filter(TraceFilter):
    def process_trace(self, trace):
        resources.extend(span.resource for span in trace)

tracer.configure(trace_processors=[Filter()])
ddtrace.patch(grpc=True)

def observed():
    return any("PushEnvelope" in resource for resource in resources)
"""
CALL = """
import asyncio, sys, time
import kekd

BLOB = kekd.KMSBlob(provider="none")
NAMES = [f"index-{number:04}" for number in range(1001)]

def raises(call):
    try:
        call()
    except kekd.EnvelopeNotFoundError:
        return True

with kekd.Client() as client:
    client.push_index_kms(None, "i", BLOB)
    assert client.get_index_kms(None, "i") == BLOB
    assert raises(lambda: client.get_index_kms(None, "missing"))
    list(client.push_many_index_kms(None, ((name, BLOB, None) for name in NAMES)))
    assert list(client.list_index_kms(None, "index-")) == NAMES  # prefetches the second page
    events = client.watch_index_kms()
    assert next(events) == kekd.Resync()
    client.push_index_kms(None, "i", BLOB)
    assert next(events).index_name == "i"
    events.close()
    ended = client.watch_index_kms()
    next(ended)

# Closing the client has ended its other watch.
try:
    next(ended)
    raise SystemExit("a watch goes on after its client was closed")
except kekd.EnvelopeError:
    pass

def is_cached(caches):
    return caches is not None and caches.get(None, "i") is not None

end = time.monotonic() + 60
with kekd.Client(cache=True) as client:
    while not is_cached(client._caches):
        assert time.monotonic() < end, "never served from memory"
        client.get_index_kms(None, "i")

async def use_async_client():
    async with kekd.AsyncClient(cache=True) as client:
        await client.push_index_kms(None, "i", BLOB)
        while not is_cached(client._caches):
            assert time.monotonic() < end, "never served from memory"
            await client.get_index_kms(None, "i")
        events = client.watch_index_kms()
        assert await anext(events) == kekd.Resync()
        await events.aclose()

asyncio.run(use_async_client())
assert observed(), "not instrumented"
"""


@pytest.mark.parametrize(
    "instrument", [OPENTELEMETRY, SENTRY, DDTRACE], ids=["OpenTelemetry", "Sentry", "ddtrace"]
)
@pytest.mark.parametrize("is_first", [True, False], ids=["before kekd", "after kekd"])
def test_instrumented_clients_work(memory_daemon: Daemon, instrument: str, is_first: bool) -> None:
    script = f"{instrument if is_first else f'import kekd{instrument}'}{CALL}"
    # ddtrace would wait for its agent.
    quiet = {"DD_TRACE_STARTUP_LOGS": "0", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment() | quiet | {"KEKD_ADDRESS": memory_daemon.address},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def is_cached(client: kekd.Client) -> bool:
    client.get_index_kms(None, "i")
    return bool(client._caches and client._caches.get(None, "i"))


def test_cache_logs_the_loss_of_its_watch_once_and_returns(
    start_daemon: StartDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ("--disk", str(tmp_path / "keystore"))
    daemon = start_daemon(*store)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name.startswith("kekd.")]

    with kekd.Client(daemon.address, cache=True) as client:
        client.push_index_kms(None, "i", BLOB)
        eventually(lambda: is_cached(client))
        daemon.kill()
        eventually(lambda: bool(lines()))
        daemon = start_daemon(*store)
        eventually(lambda: is_cached(client))
        assert len(lines()) == 1
        daemon.kill()
        eventually(lambda: len(lines()) == 2)
        start_daemon(*store)
        eventually(lambda: is_cached(client))
    # Ending the watch is no loss.
    assert len(lines()) == 2
    assert all("cache not in use: " in line and daemon.address in line for line in lines())
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_cache_logs_an_unexpected_failure_with_its_type(
    memory_daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise AttributeError("no such method")

    monkeypatch.setattr("kekd._transport.channel.Connection.stream", fail)
    with kekd.Client(memory_daemon.address, cache=True) as client:
        client.push_index_kms(None, "i", BLOB)
        assert client.get_index_kms(None, "i") == BLOB
        eventually(lambda: "cache not in use: AttributeError: no such method" in caplog.text)
