"""A daemon that replaces another without failed calls."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon, both_engines
from tests.fixtures.s3 import free_port
from tests.fixtures.workers import StartWorkers
from tests.patience import PATIENCE, eventually


@contextmanager
def reading(address: str) -> Iterator[list[kekd.EnvelopeError]]:
    """Gets continuously during the block, and yields the errors."""
    failed: list[kekd.EnvelopeError] = []
    over = threading.Event()

    def read() -> None:
        with kekd.Client(address, timeout=PATIENCE) as client:
            while not over.wait(0.005):
                try:
                    client.get_index_kms(None, "i")
                except kekd.EnvelopeError as error:
                    failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield failed
    finally:
        over.set()
        for thread in threads:
            thread.join()


@both_engines
def test_take_over_fails_no_get(start_daemon: StartDaemon, tmp_path: Path) -> None:
    port = free_port()
    flags = ("--disk", str(tmp_path / "keystore"), "--listen", f"127.0.0.1:{port}")
    metrics = ("--metrics", f"127.0.0.1:{free_port()}")
    daemon = start_daemon(*flags, *metrics)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)
    with reading(daemon.address) as failed:
        for _ in range(2):
            before = daemon
            daemon = start_daemon(*flags, *metrics, "--take-over")
            assert before.process.wait(timeout=PATIENCE) == 0
    assert not failed
    assert daemon.process.poll() is None


def test_take_over_without_a_predecessor_starts(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory", "--take-over")
    assert daemon.stop() == 0


def test_take_over_by_a_daemon_that_cannot_serve_changes_nothing(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon("--memory")
    (tmp_path / "file").touch()
    second = Daemon(tmp_path / "daemon", "--disk", f"{tmp_path}/file", "--take-over")
    assert second.process.wait(timeout=PATIENCE) == 2
    with kekd.Client(daemon.address) as client:
        client.push_index_kms(None, "i", BLOB)


def test_take_over_from_a_stopped_daemon_fails(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon("--memory")
    (tmp_path / "sitecustomize.py").write_text(
        "from kekd_server.process import predecessor\npredecessor.END_TIMEOUT = 0.1\n"
    )
    daemon.process.send_signal(signal.SIGSTOP)
    second = Daemon(
        tmp_path / "daemon",
        *("--memory", "--take-over", "--shutdown-grace", "0"),
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert second.process.wait(timeout=PATIENCE) == 2
    lines = [line for line in second.read_log().splitlines() if line.startswith("kekd: ")]
    (line,) = lines
    assert line.startswith(
        f"kekd: {daemon.address}: process {daemon.process.pid} did not end within 0.1 s of SIGTERM:"
    )
    assert daemon.socket.exists()
    daemon.process.send_signal(signal.SIGCONT)
    assert daemon.process.wait(timeout=PATIENCE) == 0


def test_take_over_from_a_daemon_with_workers_ends_its_supervisor(
    start_workers: StartWorkers, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    workers = start_workers()
    daemon = start_daemon("--disk", str(tmp_path / "keystore"), "--take-over")
    assert daemon.address == workers.daemon.address
    assert workers.process.wait(timeout=PATIENCE) == 0
    eventually(lambda: "waiting until it has drained" in daemon.read_log())


@pytest.mark.parametrize("flags", [(), ("--no-take-over",)])
def test_second_daemon_without_take_over_is_refused(
    start_daemon: StartDaemon, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    start_daemon("--memory")
    second = Daemon(tmp_path / "daemon", "--memory", *flags)
    assert second.process.wait(timeout=PATIENCE) == 2
    assert "another daemon is listening there" in second.read_log()
