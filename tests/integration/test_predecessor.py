"""Ending the daemon that already serves an address."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kekd_server.listeners.errors import ListenError
from kekd_server.listeners.unix import UnixListener
from kekd_server.process import predecessor

SERVE = """
import signal, socket, sys

signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("listening", flush=True)
signal.pause()
"""


@pytest.fixture
def listener(tmp_path: Path) -> UnixListener:
    return UnixListener(tmp_path / "s", "auto")


@pytest.fixture
def deaf(listener: UnixListener) -> Iterator[subprocess.Popen[str]]:
    """A process that listens and ignores SIGTERM."""
    command = [sys.executable, "-c", SERVE, str(listener.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline()
        yield process
        process.kill()


def test_wait_for_a_process_that_does_not_end_is_bounded(
    listener: UnixListener, deaf: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predecessor, "END_TIMEOUT", 0.1)
    with pytest.raises(ListenError) as caught:
        asyncio.run(predecessor.replace([listener], shutdown_grace=0.1))
    assert str(caught.value) == (
        f"{listener}: process {deaf.pid} did not end within 0.2 s of SIGTERM: it may be stopped or"
        f" hung; end it ('kill -KILL {deaf.pid}') and start kekd again"
    )
    assert deaf.poll() is None
    assert listener.path.exists()


def test_process_that_ends_in_time_is_replaced(
    listener: UnixListener, deaf: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: deaf.send_signal(signal.SIGKILL))
    asyncio.run(predecessor.replace([listener], shutdown_grace=0))
    assert deaf.wait() == -signal.SIGKILL
