"""Output of `kekd` that can't be written."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.daemon import BIN, clean_environment

COMMANDS = ("--help", "--version", "--print-config", "init --help", "init --disk ./keystore")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("output", "error"),
    [
        (">/dev/full", "Error: cannot write output: No space left on device\n"),
        (
            ">&-",
            "kekd: cannot write output: standard output is closed; use a file or /dev/null\n",
        ),
    ],
)
def test_full_or_closed_output_is_reported(
    tmp_path: Path, command: str, output: str, error: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{BIN}/kekd {command} {output}"],
        cwd=tmp_path,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == (error, 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_pipe_ends_the_command_quietly(tmp_path: Path, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [BIN / "kekd", *command.split()],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.stderr, done.returncode) == (b"", 1)
