"""The log for people and for log collectors."""

import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

import kekd
from tests.fixtures.daemon import BIN, StartDaemon, clean_environment
from tests.fixtures.s3 import free_port
from tests.fixtures.tls import StartTlsDaemon, TlsDaemon
from tests.patience import PATIENCE, eventually

BLOB = kekd.KMSBlob(provider="none")


@pytest.mark.parametrize(("name", "tcp"), [("daemon", True), ("it's a folder", False)])
def test_printed_commands_run_as_printed(start_daemon: StartDaemon, name: str, tcp: bool) -> None:
    addresses = [f"127.0.0.1:{free_port()}"] * tcp
    daemon = start_daemon("--memory", *(f"--listen={address}" for address in addresses), name=name)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "my_index", BLOB)
    printed = daemon.read_log()
    assert (
        f"kekd listens on {' and '.join([daemon.address, *addresses])}. Press Ctrl-C to stop."
        in printed
    )
    path = f"{BIN}:{os.environ['PATH']}"
    assert [
        subprocess.run(
            line,
            shell=True,
            env=clean_environment() | {"PATH": path},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout.split()[-1]
        for line in re.findall(r"^  (.+)$", printed, re.MULTILINE)
    ] == ["kekd.v1.EnvelopeService.WatchEnvelopes", "my_index", "['my_index']"]


def test_json_log_is_one_document_a_line(start_daemon: StartDaemon, tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    without_history = ("--history-versions", "0")  # it would log that the folder is missing, too
    daemon = start_daemon("--disk", str(keystore), "--log-format", "json", *without_history)
    shutil.rmtree(keystore)
    with kekd.Client(daemon.address) as client, pytest.raises(kekd.StoreMisconfiguredError):
        client.get_index_kms(None, "x")
    daemon.stop()
    made, *lines = [
        entry
        for line in daemon.read_log().splitlines()
        if (entry := json.loads(line))["levelname"] != "ERROR"  # a health check may fail meanwhile
    ]
    assert made["message"] == f"disk:{keystore}: created a keystore"
    assert [line["levelname"] for line in lines] == ["INFO", "WARNING", "INFO", "INFO"]
    assert lines[0]["message"] == f"serving disk:{keystore} on {daemon.address}"
    assert lines[1]["reason"] == "STORE_MISCONFIGURED"
    assert lines[1]["store"] == f"disk:{keystore}"
    assert all(line["asctime"] for line in lines)


@pytest.mark.parametrize("workers", [1, 2])
def test_output_of_grpc_core_is_json(
    start_daemon: StartDaemon, tmp_path: Path, workers: int
) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--workers", str(workers))
    daemon = start_daemon(
        *listen,
        *("--disk", str(tmp_path / "keystore"), "--log-format", "json"),
        env={"GRPC_VERBOSITY": "debug", "GRPC_TRACE": "http"},
    )
    eventually(lambda: daemon.read_log().count("serving disk:") == workers)
    daemon.stop()
    lines = [json.loads(line) for line in daemon.read_log().splitlines()]
    assert any(line["name"] == "grpc.stderr" for line in lines)
    assert {line.get("worker", 1) for line in lines} == set(range(1, workers + 1))


def fail_handshake(daemon: TlsDaemon) -> None:
    """Connects without a certificate, and waits until the daemon has refused that."""
    with suppress(OSError), daemon.connected(None) as connection:
        assert connection.recv(1) == b""


def test_cause_of_a_failed_handshake_is_in_the_json_log(start_tls_daemon: StartTlsDaemon) -> None:
    daemon = start_tls_daemon("--memory", "--log-format", "json")
    fail_handshake(daemon)
    eventually(lambda: daemon.logged("PEER_DID_NOT_RETURN_A_CERTIFICATE"))
    daemon.daemon.stop()
    lines = [json.loads(line) for line in daemon.daemon.read_log().splitlines()]
    (cause,) = (line for line in lines if line["name"] == "grpc.stderr")
    assert "Handshake failed" in cause["message"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_lines_of_grpc_core_are_omitted_without_verbosity(
    start_tls_daemon: StartTlsDaemon, form: str
) -> None:
    flags = ("--memory", "--log-format", form)
    daemon = start_tls_daemon(*flags, env={"GRPC_VERBOSITY": "NONE"})
    fail_handshake(daemon)
    daemon.daemon.stop()
    assert daemon.logged("stopped") == 1
    assert daemon.logged("Handshake failed") == 0


def test_ctrl_c_during_startup_is_silent_and_hangup_is_ignored(
    tmp_path: Path,
) -> None:
    config = tmp_path / "kekd.yaml"
    os.mkfifo(config)
    command = [str(BIN / "kekd"), "--config", str(config)]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, env=clean_environment()) as process,
        config.open("w"),  # opens when the daemon reads it
    ):
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (-signal.SIGINT, b"")
