"""Messages to systemd: READY when kekd serves, RELOADING around a reload, STOPPING."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.process import systemd
from tests.deploy.notify import Manager
from tests.fixtures.daemon import BIN, Daemon, refusal
from tests.fixtures.s3 import free_port
from tests.fixtures.workers import OWN_CONNECTION
from tests.patience import PATIENCE, eventually


@pytest.fixture(params=[1, 2], ids=["alone", "workers"])
def workers(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@contextmanager
def started(
    folder: Path, manager: Manager, workers: int, port: int, **variables: str
) -> Iterator[Daemon]:
    """Starts a daemon without waiting, because READY must show when it serves."""
    daemon = Daemon(
        folder,
        *("--workers", str(workers), "--listen", f"127.0.0.1:{port}"),
        *("--disk", str(folder / "keystore")),
        env=manager.env | variables,
    )
    try:
        yield daemon
    finally:
        daemon.kill()


def answers(address: str) -> bool:
    """Whether a single call without retries is answered."""
    with grpc.insecure_channel(address, [*OWN_CONNECTION]) as channel:
        EnvelopeServiceStub(channel).ListEnvelopes(pb.ListEnvelopesRequest(), timeout=PATIENCE)
    return True


def test_manager_is_notified_of_each_state(tmp_path: Path, manager: Manager, workers: int) -> None:
    port = free_port()
    with started(tmp_path / "daemon", manager, workers, port) as daemon:
        assert manager.receive() == {"READY": "1", "STATUS": "serving"}
        assert answers(f"127.0.0.1:{port}")
        assert answers(daemon.address)

        before = time.monotonic_ns() // 1000
        daemon.process.send_signal(signal.SIGHUP)
        reloading = manager.receive()
        assert reloading.pop("RELOADING") == "1"
        assert before <= int(reloading.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
        assert reloading == {"STATUS": "reloading"}
        assert manager.receive() == {"READY": "1", "STATUS": "serving"}

        assert daemon.stop() == 0
        assert manager.receive() == {"STOPPING": "1", "STATUS": "draining"}
        assert manager.has_no_message()


def test_watchdog_is_notified_while_the_event_loop_runs(
    tmp_path: Path, manager: Manager, workers: int
) -> None:
    port = free_port()
    with started(tmp_path / "daemon", manager, workers, port, WATCHDOG_USEC="20000"):
        received = [manager.receive()]
        while {"READY": "1", "STATUS": "serving"} not in received or len(received) < 10:
            received.append(manager.receive())
        assert received.count({"WATCHDOG": "1"}) == len(received) - 1


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval_is_half_of_the_limit_of_this_process(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], interval: float | None
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == interval


def test_workers_inherit_no_variable_of_the_service_manager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
        assert name not in systemd.environment_without_notify_socket()


def test_daemon_that_cannot_serve_is_never_ready(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with monkeypatch.context() as environment:
        environment.setenv("NOTIFY_SOCKET", manager.env["NOTIFY_SOCKET"])
        refusal(BIN / "kekd", "--listen", f"unix:{tmp_path}/s", "--disk", tmp_path / "file")
    assert manager.has_no_message()


def test_missing_manager_is_logged(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    manager.close()
    with started(tmp_path / "daemon", manager, 1, free_port()) as daemon:
        eventually(lambda: "cannot send READY=1 to the service manager: " in daemon.read_log())
