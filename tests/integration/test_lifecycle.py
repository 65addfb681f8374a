"""From start to stop: sockets, folders, signals, and what the daemon says of itself."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_schema import Envelope, encode
from kekd_server.listen import ListenError, UnixListener
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.s3 import CREDENTIALS, free_port

BLOB = kekd.KMSBlob(provider="none")
SIGNALS = [signal.SIGTERM, signal.SIGINT]

WATCHER = """
import json, os, select, sys
seen = set()
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(1000):
        try:
            seen.add(os.stat(sys.argv[1]).st_mode)
        except FileNotFoundError:
            pass
print(json.dumps(list(seen)))
"""
"""A process of its own, as a thread would slow down what it watches."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refused(*flags: str) -> str:
    """What a daemon says that must not start."""
    done = subprocess.run(
        [BIN / "kekd", "--memory", *flags],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Daemons that are started meanwhile must not rely on the user's umask."""
    umask = os.umask(0)
    yield
    os.umask(umask)


@pytest.mark.usefixtures("no_umask")
def test_the_socket_has_its_mode_from_the_first_moment(tmp_path: Path) -> None:
    listener = UnixListener(tmp_path / "folder" / "kekd.sock")
    modes = []
    with listener.claimed(), socket.socket(socket.AF_UNIX) as server:

        def add_port(address: str) -> int:
            server.bind(address.removeprefix("unix:"))
            modes.append(mode(listener.path))
            return 1

        listener.bind(add_port)
        (tmp_path / "later").touch()
    assert modes == [0o660]
    assert mode(tmp_path / "later") == 0o666


@pytest.mark.usefixtures("no_umask")
def test_nobody_ever_sees_the_socket_with_another_mode(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, tmp_path / "daemon" / "kekd.sock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    for _ in range(2):
        start_daemon("--memory").stop()
    seen, _ = watcher.communicate(timeout=30)
    assert json.loads(seen) == [stat.S_IFSOCK | 0o660]


@pytest.mark.usefixtures("no_umask")
def test_all_that_it_makes_is_its_own(start_daemon: StartDaemon, tmp_path: Path) -> None:
    made = tmp_path / "made"
    flags = ("--listen", f"unix:{made}/run/kekd/kekd.sock", "--disk", f"{made}/keystores/one")
    with kekd.Client(start_daemon(*flags).address) as client:
        client.push_index_kms(None, "x", BLOB)
    paths = [made, *made.rglob("*")]
    folders, files = filter(Path.is_dir, paths), filter(Path.is_file, paths)
    assert {mode(path) for path in folders} == {0o700}
    assert {mode(path) for path in files} == {0o600}


def test_a_folder_that_is_there_stays_as_it_is(start_daemon: StartDaemon, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    start_daemon("--listen", f"unix:{tmp_path}/s", "--disk", str(tmp_path))
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("folder_mode", [0o777, 0o1777, 0o702, 0o770])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, folder_mode: int) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(folder_mode)
    said = refused("--listen", f"unix:{folder}/s")
    assert f"may write the folder {folder}: use a folder of the daemon's own." in said
    assert list(folder.iterdir()) == []


def test_the_socket_of_a_killed_daemon_is_taken_over(start_daemon: StartDaemon) -> None:
    killed = start_daemon("--memory")
    killed.kill()
    assert killed.socket.is_socket()
    start_daemon("--memory")


def test_the_socket_of_a_living_daemon_is_refused(daemon: Daemon, client: kekd.Client) -> None:
    client.create_index_kms(None, "x", BLOB)
    said = refused("--listen", daemon.address)
    assert said.startswith(f"kekd: {daemon.address}: another daemon is listening there: stop it")
    with kekd.Client(daemon.address) as another:
        assert another.get_index_kms(None, "x") == BLOB


def test_the_socket_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "another daemon is listening there" in refused("--listen", f"unix:{path}")
        assert path.is_socket()


def test_a_socket_that_another_is_about_to_make_is_refused(tmp_path: Path) -> None:
    listener = UnixListener(tmp_path / "kekd.sock")
    with (
        listener.claimed(),
        pytest.raises(ListenError, match="another daemon is listening there"),
        listener.claimed(),
    ):
        pass


def test_of_two_that_start_at_once_one_serves(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        for _ in range(2):  # the second time over the socket of one that was killed
            rivals = [Daemon(tmp_path / "daemon", "--memory") for _ in range(2)]
            try:
                ends = [threads.submit(rival.process.wait) for rival in rivals]
                wait(ends, timeout=30, return_when=FIRST_COMPLETED)
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
def test_what_is_no_socket_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "precious"
    make(path)
    before = path.lstat().st_ino, path.lstat().st_mtime_ns
    assert "there is something else than a socket: move it away." in refused(
        f"--listen=unix:{path}"
    )
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == before


def test_a_taken_port_is_refused(start_daemon: StartDaemon) -> None:
    address = f"127.0.0.1:{free_port()}"
    start_daemon("--memory", "--listen", address)
    assert f"kekd: {address}: can't be bound: is the port taken?" in refused("--listen", address)


def test_a_port_can_be_taken_again_at_once(start_daemon: StartDaemon) -> None:
    address = f"127.0.0.1:{free_port()}"
    with kekd.Client(address) as client:
        for _ in range(2):
            daemon = start_daemon("--memory", "--listen", address)
            client.push_index_kms(None, "x", BLOB)
            daemon.stop()


def test_all_listeners_serve_the_same(start_daemon: StartDaemon, tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{free_port()}", f"[::1]:{free_port()}", f"unix:{tmp_path}/other"]
    daemon = start_daemon("--memory", *(f"--listen={address}" for address in addresses))
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "x", BLOB)
    for address in addresses:
        with kekd.Client(address) as client:
            assert list(client.list_index_kms()) == ["x"]


class SlowS3(ThreadingHTTPServer):
    """Answers a GetObject only when it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SlowAnswer)
        self.asked, self.answer = threading.Event(), threading.Event()


class SlowAnswer(BaseHTTPRequestHandler):
    server: SlowS3

    def do_GET(self) -> None:
        self.server.asked.set()
        self.server.answer.wait(60)
        record = encode(Envelope(provider="none"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(record)))
        self.send_header("ETag", '"slow"')
        self.end_headers()
        self.wfile.write(record)

    def log_message(self, *_: object) -> None:
        """Nothing to the terminal."""


@pytest.fixture
def slow_s3() -> Iterator[SlowS3]:
    with SlowS3() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.answer.set()
        server.shutdown()
        thread.join()


def watch_health(channel: grpc.Channel) -> Any:
    """The stream of what the daemon says of its health; serving, so far."""
    watch = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    health = watch(health_pb2.HealthCheckRequest(service="kekd.v1.EnvelopeService"))
    assert next(health).status == health_pb2.HealthCheckResponse.SERVING
    return health


class Busy:
    """A daemon with a call in flight, and a stream that tells its health."""

    def __init__(self, daemon: Daemon, channel: grpc.Channel, slow_s3: SlowS3) -> None:
        self.daemon = daemon
        self.process = daemon.process
        self.slow_s3 = slow_s3
        self._health = watch_health(channel)
        self.call = EnvelopeServiceStub(channel).GetEnvelope.future(
            pb.GetEnvelopeRequest(index_name="x")
        )
        assert slow_s3.asked.wait(30)

    def signal(self, number: signal.Signals) -> None:
        """Returns when the daemon has begun to shut down."""
        self.process.send_signal(number)
        assert next(self._health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        self._health.cancel()


@pytest.fixture
def busy(
    request: pytest.FixtureRequest, start_daemon: StartDaemon, slow_s3: SlowS3
) -> Iterator[Busy]:
    endpoint = f"http://127.0.0.1:{slow_s3.server_port}"
    flags = ("--s3", "bucket", "--s3-region", "us-east-1", "--s3-endpoint", endpoint)
    daemon = start_daemon(*flags, "--shutdown-grace", str(request.param), env=CREDENTIALS)
    # Without gRPC's own retries, as they would hide how the call ended.
    with grpc.insecure_channel(daemon.address, [("grpc.enable_retries", 0)]) as channel:
        yield Busy(daemon, channel, slow_s3)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("busy", [30], indirect=True)
def test_a_call_in_flight_is_finished(busy: Busy, number: signal.Signals) -> None:
    busy.signal(number)
    assert not busy.call.done()
    busy.slow_s3.answer.set()
    assert busy.call.result(timeout=20).etag == "slow"
    assert busy.process.wait(timeout=20) == 0
    assert not busy.daemon.socket.exists()


@pytest.mark.parametrize("busy", [30], indirect=True)
def test_no_call_is_taken_any_more_at_shutdown(busy: Busy) -> None:
    busy.signal(signal.SIGTERM)
    with (
        grpc.insecure_channel(busy.daemon.address) as channel,
        pytest.raises(grpc.RpcError) as late,
    ):
        EnvelopeServiceStub(channel).ListEnvelopes(pb.ListEnvelopesRequest(), timeout=10)
    assert late.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("busy", [0.2], indirect=True)
def test_a_call_that_outlasts_the_grace_is_cancelled(busy: Busy) -> None:
    busy.signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError, match="Cancelling all calls"):
        busy.call.result(timeout=20)
    busy.slow_s3.answer.set()
    assert busy.process.wait(timeout=20) == 0
    assert not busy.daemon.socket.exists()


@pytest.mark.parametrize("busy", [0.2], indirect=True)
def test_a_cancelled_call_is_no_error_of_the_daemon(busy: Busy) -> None:
    busy.signal(signal.SIGTERM)
    assert busy.call.exception(timeout=20)
    busy.slow_s3.answer.set()
    busy.process.wait(timeout=20)
    assert "Traceback" not in busy.daemon.read_log()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("busy", [60], indirect=True)
def test_a_second_signal_ends_it_at_once(busy: Busy, number: signal.Signals) -> None:
    busy.signal(number)
    busy.process.send_signal(number)
    assert busy.process.wait(timeout=20) == -number
    assert busy.call.exception(timeout=20)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_idle_daemon_stops_before_its_grace_is_over(
    start_daemon: StartDaemon, number: signal.Signals
) -> None:
    daemon = start_daemon("--memory", "--shutdown-grace", "3600")
    daemon.process.send_signal(number)
    assert daemon.process.wait(timeout=20) == 0
    assert not daemon.socket.exists()
    assert daemon.read_log().endswith("INFO stopped\n")


def test_one_that_watches_the_health_does_not_hold_up_the_stop(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory", "--shutdown-grace", "3600")
    with grpc.insecure_channel(daemon.address) as channel:
        health = watch_health(channel)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=5) == 0
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize(("name", "tcp"), [("daemon", True), ("it's a folder", False)])
def test_the_lines_it_prints_run_as_printed(
    start_daemon: StartDaemon, name: str, tcp: bool
) -> None:
    addresses = [f"127.0.0.1:{free_port()}"] * tcp
    daemon = start_daemon("--memory", *(f"--listen={it}" for it in addresses), name=name)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "my_index", BLOB)
    printed = daemon.read_log()
    assert f"kekd listens on {' and '.join([daemon.address, *addresses])}; Ctrl-C" in printed
    path = f"{BIN}:{os.environ['PATH']}"
    assert [
        subprocess.run(
            line,
            shell=True,
            env=clean_environment() | {"PATH": path},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.split()[-1]
        for line in re.findall(r"^  (.+)$", printed, re.MULTILINE)
    ] == ["kekd.v1.EnvelopeService.PushEnvelope", "my_index", "['my_index']"]


def test_the_json_log_is_a_document_a_line(start_daemon: StartDaemon, tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(keystore), "--log-format", "json")
    shutil.rmtree(keystore)
    with kekd.Client(daemon.address) as client, pytest.raises(kekd.StoreUnusableError):
        client.get_index_kms(None, "x")
    daemon.stop()
    lines = [json.loads(line) for line in daemon.read_log().splitlines()]
    assert [line["levelname"] for line in lines] == ["INFO", "WARNING", "INFO", "INFO"]
    assert lines[0]["message"] == f"serving disk:{keystore} on {daemon.address}"
    assert lines[1]["reason"] == "STORE_UNUSABLE"
    assert lines[1]["store"] == f"disk:{keystore}"
    assert all(line["asctime"] for line in lines)
