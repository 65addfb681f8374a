"""The port of a daemon with workers is reserved, and its socket belongs to the first worker."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import kekd
from kekd_server.listeners import port_reservation
from tests.fixtures.daemon import BIN, StartDaemon, both_engines, refusal
from tests.fixtures.s3 import free_port
from tests.fixtures.workers import StartWorkers, Workers
from tests.patience import PATIENCE, eventually

SEVERAL = ("--workers", "2")
in_use = pytest.raises(OSError, match="in use")


def refused(folder: Path, *flags: str) -> str:
    """Returns the error of a daemon that must not start."""
    return refusal(BIN / "kekd", "--disk", folder / "keystore", *flags)


@contextmanager
def listening(host: str, port: int, *, share: bool = True) -> Iterator[None]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
        server.bind((host, port))
        server.listen()
        yield


def test_reserved_port_accepts_only_sockets_that_share_it() -> None:
    port = free_port()
    with port_reservation.reserve_port("127.0.0.1", port), listening("127.0.0.1", port):
        with listening("127.0.0.1", port):
            pass
        with in_use, listening("127.0.0.1", port, share=False):
            pass


def test_reserved_port_accepts_no_connection() -> None:
    port = free_port()
    with port_reservation.reserve_port("127.0.0.1", port), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_shared_port_is_not_reserved(host: str) -> None:
    port = free_port()
    with listening(host, port), in_use, port_reservation.reserve_port("127.0.0.1", port):
        pass


def test_concurrent_reservations_have_one_winner() -> None:
    many, port = 8, free_port()
    start, done = threading.Barrier(many), threading.Barrier(many)

    def hold(_: int) -> bool:
        start.wait()
        with ExitStack() as stack:
            try:
                stack.enter_context(port_reservation.reserve_port("127.0.0.1", port))
            except OSError:
                return False
            finally:
                done.wait()
            return True

    with ThreadPoolExecutor(many) as threads:
        for _ in range(200):
            assert sum(threads.map(hold, range(many))) == 1


@both_engines
@pytest.mark.parametrize("flags", [(), SEVERAL], ids=["one", "several"])
def test_another_daemon_on_its_port_is_refused(
    workers: Workers, tmp_path: Path, flags: tuple[str, ...], engine: str
) -> None:
    said = refused(tmp_path, *flags, "--engine", engine, "--listen", workers.address)
    assert (
        f"kekd: {workers.address}: cannot be bound: the port may be in use; use another one\n"
        in said
    )


@both_engines
def test_workers_on_the_port_of_a_daemon_without_are_refused(
    start_daemon: StartDaemon, tmp_path: Path, engine: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    start_daemon("--memory", "--listen", address)
    said = refused(tmp_path, *SEVERAL, "--engine", engine, "--listen", address)
    assert said == f"kekd: {address}: cannot be bound: the port may be in use; use another one\n"


def test_port_stays_reserved_while_no_worker_runs(workers: Workers, tmp_path: Path) -> None:
    for number in (1, 2):
        workers.kill(number)
    with in_use, listening("127.0.0.1", workers.port, share=False):
        pass
    workers.wait_for_restarts(2)


def test_shared_problem_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "keystore").write_text("no folder")
    said = refused(tmp_path, *SEVERAL, "--listen", f"127.0.0.1:{free_port()}")
    assert len(said.splitlines()) == 1
    assert said.startswith(f"kekd: the store at {tmp_path}/keystore failed: ")


def test_every_taken_address_is_reported(workers: Workers, tmp_path: Path) -> None:
    addresses = [workers.address, workers.daemon.address]
    said = refused(tmp_path, *SEVERAL, *(f"--listen={address}" for address in addresses))
    assert all(f"{address}: " in said for address in addresses)


@both_engines
def test_localhost_is_served_by_all_workers(start_workers: StartWorkers) -> None:
    address = f"localhost:{free_port()}"
    start_workers("--listen", address)
    with kekd.Client(address) as client:
        client.wait(PATIENCE)


@both_engines
def test_first_worker_serves_the_socket_again_after_its_restart(workers: Workers) -> None:
    for restart in (1, 2):
        workers.kill(1)
        workers.wait_for_restarts(restart)
        with kekd.Client(workers.daemon.address) as client:
            client.wait(PATIENCE)
    assert workers.daemon.socket.stat().st_mode & 0o777 == 0o660
    other = workers.pids[2]
    os.kill(other, signal.SIGSTOP)
    try:
        with kekd.Client(workers.daemon.address) as client:
            client.wait(PATIENCE)
    finally:
        os.kill(other, signal.SIGCONT)


def test_another_daemon_gets_no_socket_whose_worker_is_away(
    workers: Workers, tmp_path: Path
) -> None:
    workers.kill(1)
    said = refused(tmp_path, "--listen", workers.daemon.address)
    assert "another daemon is listening there" in said


def test_port_can_be_bound_again_immediately(start_workers: StartWorkers, tmp_path: Path) -> None:
    workers = start_workers()
    with workers.channels(32):
        assert workers.daemon.stop() == 0  # closes the connections, which linger on its side
    with port_reservation.reserve_port("127.0.0.1", workers.port):
        pass


def test_killed_supervisor_leaves_no_worker_and_no_port(workers: Workers) -> None:
    pids = workers.pids.values()
    workers.daemon.kill()
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))  # noqa: PTH110
    with port_reservation.reserve_port("127.0.0.1", workers.port):
        pass
