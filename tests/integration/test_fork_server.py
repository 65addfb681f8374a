"""Forked daemons start and end like the command, so that tests can use either."""

import os
import re
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.forked_process import ForkedProcess
from tests.patience import PATIENCE

STATUS = re.compile(
    r"^(?:Umask|Uid|Gid|Groups|SigBlk|SigIgn|SigCgt|Cap\w+|NoNewPrivs):.*",
    re.MULTILINE,
)
FIRST_DESCRIPTORS = 7
"""Those that a daemon has before it serves. An inherited one would change their numbers."""


def state_of(daemon: Daemon) -> object:
    """Returns the state that a process inherits or sets."""
    folder = Path(f"/proc/{daemon.process.pid}")
    descriptors = {
        number: re.sub(r"\d+|command|fork", "", str((folder / "fd" / str(number)).readlink()))
        for number in range(FIRST_DESCRIPTORS)
    }
    return (
        STATUS.findall((folder / "status").read_text()),
        (folder / "limits").read_text(),
        (folder / "cwd").readlink(),
        descriptors,
    )


def test_forked_daemon_has_the_state_of_the_command(
    start_daemon: StartDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_daemon("--memory", name="first")  # the server starts with it
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o027))
        forked = start_daemon("--memory", name="fork")
        command = start_daemon("--memory", name="command", forked=False)
    assert isinstance(forked.process, ForkedProcess)
    assert not isinstance(command.process, ForkedProcess)
    assert state_of(forked) == state_of(command)


@pytest.mark.parametrize("forked", [False, True], ids=["command", "fork"])
def test_exit_code_of_a_daemon_is_reported(
    start_daemon: StartDaemon, tmp_path: Path, forked: bool
) -> None:
    refused = Daemon(tmp_path / "refused", "--no-such-flag", forked=forked)
    assert refused.process.wait(PATIENCE) == 2
    assert "no-such-flag" in refused.read_log()
    daemon = start_daemon("--memory", forked=forked)
    assert daemon.process.poll() is None
    assert daemon.stop() == 0
    killed = start_daemon("--memory", forked=forked)
    killed.kill()
    assert killed.process.returncode == -signal.SIGKILL


def test_different_interpreter_variable_starts_the_command(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--memory", env={"GRPC_VERBOSITY": "error"})
    assert not isinstance(daemon.process, ForkedProcess)
