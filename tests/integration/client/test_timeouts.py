"""Timeouts of calls and waits."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import kekd
from kekd._transport import timeouts
from kekd._transport.operation import SERVICE
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.integration.client.blocking import OpenClient
from tests.integration.client.calls import BLOB, CALLS, each_call
from tests.integration.fixtures.proxy import Proxy, StartProxy, delay, refuse, say_nothing
from tests.patience import PATIENCE, eventually

NEVER = 1e6
"""A timeout that never passes in a test."""


@each_call
def test_call_ends_at_its_timeout(
    open_client: OpenClient, proxy: Proxy, index: str, call: Callable[..., Any]
) -> None:
    proxy.set_faults(then=say_nothing)
    start = time.monotonic()
    with (
        open_client(proxy.address, timeout=NEVER) as client,
        pytest.raises(kekd.DeadlineExceededError, match=proxy.address),
    ):
        call(client, index, timeout=0.3)
    assert 0.3 <= time.monotonic() - start < PATIENCE


def test_client_timeout_applies_to_its_calls(
    open_client: OpenClient, proxy: Proxy, index: str
) -> None:
    proxy.set_faults(then=say_nothing)
    with (
        open_client(proxy.address, timeout=0.3) as client,
        pytest.raises(kekd.DeadlineExceededError),
    ):
        client.get_index_kms(None, index)


def test_timeout_includes_the_retries(open_client: OpenClient, proxy: Proxy, index: str) -> None:
    proxy.set_faults(then=refuse)
    start = time.monotonic()
    with (
        open_client(proxy.address, timeout=NEVER) as client,
        pytest.raises((kekd.DeadlineExceededError, kekd.UnavailableError)),
    ):
        client.get_index_kms(None, index, timeout=0.5)
    assert time.monotonic() - start < PATIENCE


@each_call
def test_invalid_timeout_of_a_call_is_refused(
    client: kekd.Client, index: str, call: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=r"invalid timeout nan"):
        call(client, index, timeout=math.nan)


@pytest.mark.parametrize("make", [kekd.Client, kekd.AsyncClient, kekd.connect])
def test_invalid_timeout_of_a_client_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"invalid timeout 0"):
        make(timeout=0)


def test_invalid_timeout_of_a_wait_is_refused(client: kekd.Client) -> None:
    with pytest.raises(ValueError, match=r"invalid timeout -1"):
        client.wait(-1)


@each_call
def test_longest_timeout_does_not_expire(
    client: kekd.Client, index: str, call: Callable[..., Any]
) -> None:
    client.push_index_kms(None, index, BLOB)
    if call is CALLS["create"]:
        client.delete_index_kms(None, index)
    assert call(client, index, timeout=1e9)
    client.wait(1e9)


def test_wait_with_timeout_0_makes_one_attempt(
    open_client: OpenClient, shared_daemon: Daemon, tmp_path: Path
) -> None:
    with open_client(shared_daemon.address) as client:
        client.wait(0)
    start = time.monotonic()
    with (
        open_client(f"unix:{tmp_path}/none", timeout=NEVER) as client,
        pytest.raises(kekd.UnavailableError),
    ):
        client.wait(0)
    assert time.monotonic() - start < PATIENCE


def test_wait_for_an_unknown_service_names_the_list_of_stores(client: kekd.Client) -> None:
    with pytest.raises(kekd.EnvelopeNotFoundError, match="its log lists its stores"):
        client.wait(service="disk:/typo")


def test_wait_returns_when_the_daemon_serves(
    open_client: OpenClient, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    with (
        open_client(f"unix:{tmp_path}/late/kekd.sock") as client,
        ThreadPoolExecutor() as threads,
    ):
        waiting = threads.submit(client.wait)
        start_daemon("--memory", name="late")
        waiting.result(timeout=PATIENCE)


def test_wait_without_a_daemon_raises_at_its_timeout(
    open_client: OpenClient, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/none"
    start = time.monotonic()
    with (
        open_client(address, timeout=NEVER) as client,
        pytest.raises(kekd.UnavailableError, match=address),
    ):
        client.wait(0.5)
    assert 0.5 <= time.monotonic() - start < PATIENCE


class CountingHealth(health.HealthServicer):
    checks = 0

    def Check(self, request: Any, context: Any) -> Any:
        self.checks += 1
        return super().Check(request, context)


@pytest.fixture
def starting() -> Iterator[tuple[str, CountingHealth]]:
    """Yields the address of a daemon that isn't serving yet, and its health service."""
    with ThreadPoolExecutor() as threads:
        server, servicer = grpc.server(threads), CountingHealth()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        servicer.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
        server.start()
        yield f"127.0.0.1:{port}", servicer
        server.stop(None).wait()


def test_wait_for_liveness_returns_before_the_daemon_serves(
    open_client: OpenClient, starting: tuple[str, CountingHealth]
) -> None:
    with open_client(starting[0]) as client:
        client.wait(0, service="")
        with pytest.raises(kekd.UnavailableError):
            client.wait(0)


class LateHealth(health.HealthServicer):
    """Delays the answers to health checks until a test releases them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def Check(self, request: Any, context: Any) -> Any:
        self.asked.set()
        assert self.may_answer.wait(PATIENCE)
        return super().Check(request, context)


@pytest.fixture
def late() -> Iterator[tuple[str, LateHealth]]:
    """Yields the address of a serving daemon, and its late health service."""
    with ThreadPoolExecutor() as threads:
        server, servicer = grpc.server(threads), LateHealth()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        server.start()
        yield f"127.0.0.1:{port}", servicer
        servicer.may_answer.set()
        server.stop(None).wait()


def test_single_attempt_waits_for_a_late_response(
    open_client: OpenClient, late: tuple[str, LateHealth]
) -> None:
    address, servicer = late
    with open_client(address, timeout=PATIENCE) as client, ThreadPoolExecutor() as threads:
        looking = threads.submit(client.wait, 0)
        assert servicer.asked.wait(PATIENCE)
        with pytest.raises(TimeoutError):
            looking.result(timeout=0.3)
        servicer.may_answer.set()
        looking.result(timeout=PATIENCE)


def test_single_attempt_ends_at_the_timeout_of_a_call(
    open_client: OpenClient, late: tuple[str, LateHealth]
) -> None:
    with (
        open_client(late[0], timeout=0.2) as client,
        pytest.raises(kekd.DeadlineExceededError),
    ):
        client.wait(0)


def test_single_attempt_reaches_a_distant_daemon(distant: kekd.Client, proxy: Proxy) -> None:
    proxy.set_faults(then=delay(0.06))
    distant.wait(0)


def test_wait_for_a_distant_daemon_raises_its_last_response(
    open_client: OpenClient,
    starting: tuple[str, CountingHealth],
    start_proxy: StartProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeouts, "_LAST_ATTEMPT_TIMEOUT", PATIENCE)
    proxy = start_proxy(starting[0])
    proxy.set_faults(then=delay(0.06))
    with (
        open_client(proxy.address) as client,
        pytest.raises(kekd.UnavailableError, match="doesn't serve yet"),
    ):
        client.wait(0.01)


def test_wait_for_a_listening_daemon_continues_until_it_serves(
    open_client: OpenClient,
    starting: tuple[str, CountingHealth],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeouts, "_LAST_ATTEMPT_TIMEOUT", PATIENCE)
    address, servicer = starting
    with open_client(address) as client, ThreadPoolExecutor() as threads:
        with pytest.raises(kekd.UnavailableError, match=f"{address} doesn't serve yet"):
            client.wait(0.3)
        asked = servicer.checks
        waiting = threads.submit(client.wait)
        eventually(lambda: servicer.checks > asked + 1)
        assert not waiting.done()
        servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        waiting.result(timeout=PATIENCE)
