"""Sockets, ports and folders: their permissions, and conflicts between two daemons."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

import kekd
from kekd_server.listeners.engine import EngineName
from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.unix import UnixListener, _private_folder
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, both_engines, refusal
from tests.fixtures.s3 import free_port
from tests.patience import PATIENCE

BLOB = kekd.KMSBlob(provider="none")

WATCHER = """
import json, os, select, sys
seen = set()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(1000):
        try:
            seen.add(os.stat(sys.argv[1]).st_mode)
        except FileNotFoundError:
            pass
print(json.dumps(list(seen)))
"""
"""A process of its own, because a thread would slow down the code that it watches."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refused(*flags: str, engine: EngineName = "auto") -> str:
    """Returns the error of a daemon that must not start."""
    return refusal(BIN / "kekd", "--memory", "--engine", engine, *flags)


def refused_path(path: Path) -> str:
    """Returns the error of a listener that must not acquire the path."""
    with pytest.raises(ListenError) as caught, UnixListener(path).acquire():
        pass
    return str(caught.value)


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Sets the umask to 0, so that daemons can't rely on it."""
    umask = os.umask(0)
    yield
    os.umask(umask)


@pytest.mark.usefixtures("no_umask")
def test_socket_has_its_mode_from_the_first_moment(tmp_path: Path) -> None:
    listener = UnixListener(tmp_path / "folder" / "kekd.sock")
    modes = {}
    with listener.acquire(), socket.socket(socket.AF_UNIX) as server:

        def add_port(address: str) -> int:
            path = Path(address.removeprefix("unix:"))
            server.bind(str(path))
            with ThreadPoolExecutor() as threads:
                threads.submit((tmp_path / "other").mkdir).result()
            modes["folder"], modes["another thread's"] = mode(path.parent), mode(tmp_path / "other")
            return 1

        listener.bind(add_port)
        assert mode(listener.path) == 0o660
    assert modes == {"folder": 0o700, "another thread's": 0o777}
    assert list(listener.path.parent.iterdir()) == [Path(f"{listener.path}.lock")]


def test_file_of_a_worker_killed_during_the_bind_is_removed(tmp_path: Path) -> None:
    listener = UnixListener(tmp_path / "folder" / "kekd.sock")

    def bind(address: str) -> int:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address.removeprefix("unix:"))
        return 1

    with listener.acquire():
        listener.bind(bind)
        private = _private_folder(listener.path)
        private.mkdir()
        bind(f"unix:{private}/s")
        listener.bind(bind)
        assert listener.path.is_socket()
        assert not private.exists()


@both_engines
@pytest.mark.usefixtures("no_umask")
def test_socket_is_never_visible_with_another_mode(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, tmp_path / "daemon" / "kekd.sock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert watcher.stdout
    assert watcher.stdout.readline() == b"ready\n"
    for _ in range(2):
        start_daemon("--memory").stop()
    seen, _ = watcher.communicate(timeout=PATIENCE)
    assert json.loads(seen) == [stat.S_IFSOCK | 0o660]


@pytest.mark.usefixtures("no_umask")
def test_created_files_are_private(start_daemon: StartDaemon, tmp_path: Path) -> None:
    made = tmp_path / "made"
    flags = ("--listen", f"unix:{made}/run/kekd/kekd.sock", "--disk", f"{made}/keystores/one")
    with kekd.Client(start_daemon(*flags).address) as client:
        client.push_index_kms(None, "x", BLOB)
    paths = [made, *made.rglob("*")]
    folders, files = filter(Path.is_dir, paths), filter(Path.is_file, paths)
    assert {mode(path) for path in folders} == {0o700}
    assert {mode(path) for path in files} == {0o600}


def test_existing_folder_keeps_its_mode(start_daemon: StartDaemon, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    start_daemon("--listen", f"unix:{tmp_path}/s", "--disk", str(tmp_path))
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("folder_mode", [0o777, 0o1777, 0o702, 0o770])
def test_folder_writable_by_others_is_refused(tmp_path: Path, folder_mode: int) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(folder_mode)
    said = refused_path(folder / "s")
    assert f"can write the folder {folder}; use a folder that only the daemon" in said
    assert list(folder.iterdir()) == []


@both_engines
def test_socket_of_a_killed_daemon_is_taken_over(start_daemon: StartDaemon) -> None:
    killed = start_daemon("--memory")
    killed.kill()
    assert killed.socket.is_socket()
    start_daemon("--memory")


def test_socket_of_a_running_daemon_is_refused(daemon: Daemon, client: kekd.Client) -> None:
    client.create_index_kms(None, "x", BLOB)
    said = refused("--listen", daemon.address)
    assert said.startswith(f"kekd: {daemon.address}: another daemon is listening there; stop it")
    with kekd.Client(daemon.address) as another:
        assert another.get_index_kms(None, "x") == BLOB


def test_socket_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "another daemon is listening there" in refused_path(path)
        assert path.is_socket()


def test_program_that_accepts_no_connections_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(path))
        other.listen(0)
        waiting.connect(str(path))
        assert "another daemon is listening there" in refused_path(path)


def test_socket_that_another_daemon_is_creating_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kekd.sock"
    with UnixListener(path).acquire():
        assert "another daemon is listening there" in refused_path(path)


def test_concurrent_starts_have_one_winner(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        for _ in range(2):  # the second one replaces the socket of a killed daemon
            rivals = [Daemon(tmp_path / "daemon", "--memory") for _ in range(2)]
            try:
                ends = [threads.submit(rival.process.wait) for rival in rivals]
                wait(ends, timeout=PATIENCE, return_when=FIRST_COMPLETED)
                (winner,) = [rival for rival in rivals if rival.process.poll() is None]
                winner.wait()
                assert sorted(rival.process.poll() or 0 for rival in rivals) == [0, 2]
            finally:
                for rival in rivals:
                    rival.kill()


def make_folder(path: Path) -> None:
    path.mkdir()


def make_file(path: Path) -> None:
    path.write_text("precious")


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [make_folder, make_file, make_dangling_link])
def test_file_that_is_no_socket_is_refused_and_not_changed(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "precious"
    make(path)
    before = path.lstat().st_ino, path.lstat().st_mtime_ns
    assert "the file is not a socket; remove it" in refused_path(path)
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == before


@both_engines
def test_taken_port_is_refused(start_daemon: StartDaemon, engine: EngineName) -> None:
    address = f"127.0.0.1:{free_port()}"
    start_daemon("--memory", "--listen", address)
    said = refused("--listen", address, engine=engine)
    assert f"kekd: {address}: cannot be bound: the port may be in use; use another one" in said


@both_engines
def test_host_name_with_one_taken_address_is_refused(engine: EngineName) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"localhost:{other.getsockname()[1]}"
        said = refused("--memory", "--listen", address, engine=engine)
    assert f"kekd: {address}: cannot be bound: the port may be in use; use another one" in said


@both_engines
def test_port_can_be_bound_again_immediately(start_daemon: StartDaemon) -> None:
    address = f"127.0.0.1:{free_port()}"
    with kekd.Client(address) as client:
        for _ in range(2):
            daemon = start_daemon("--memory", "--listen", address)
            client.push_index_kms(None, "x", BLOB)
            daemon.stop()


@both_engines
def test_listeners_serve_the_same_store(start_daemon: StartDaemon, tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{free_port()}", f"[::1]:{free_port()}", f"unix:{tmp_path}/other"]
    daemon = start_daemon("--memory", *(f"--listen={address}" for address in addresses))
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "x", BLOB)
    for address in addresses:
        with kekd.Client(address) as client:
            assert list(client.list_index_kms()) == ["x"]
