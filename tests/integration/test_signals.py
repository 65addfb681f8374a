"""SIGTERM and SIGINT, of ordinary processes and of process 1."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.daemon import BIN, clean_environment
from tests.patience import PATIENCE

DRAINING = """
import asyncio
from kekd_server.process.signals import stop_signal

async def drain():
    signalled = stop_signal()
    print("serving", flush=True)
    await signalled.wait()
    print("draining", flush=True)
    await asyncio.sleep(3600)

asyncio.run(drain())
"""
NUMBERS = [signal.SIGTERM, signal.SIGINT]
AS_PROCESS_1 = ["unshare", *(["--map-root-user"] if os.geteuid() else []), "--pid", "--fork"]


def child(process: subprocess.Popen[str]) -> int:
    """The pid of the program that runs as process 1 under unshare."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("is_first", [False, True])
def test_second_signal_during_drain_ends_the_process(
    number: signal.Signals, is_first: bool
) -> None:
    command = [*(AS_PROCESS_1 if is_first else []), sys.executable, "-c", DRAINING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "serving\n"
            pid = child(process) if is_first else process.pid
            os.kill(pid, number)
            assert process.stdout.readline() == "draining\n"
            os.kill(pid, number)
            assert process.wait(PATIENCE) == (128 + number if is_first else -number)
        finally:
            process.kill()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_signal_during_startup_ends_process_1(
    number: signal.Signals, workers: str, tmp_path: Path
) -> None:
    config = tmp_path / "kekd.yaml"
    os.mkfifo(config)
    command = [*AS_PROCESS_1, str(BIN / "kekd"), "--workers", workers, "--config", str(config)]
    with subprocess.Popen(command, text=True, env=clean_environment()) as process:
        try:
            with config.open("w"):  # opens when kekd reads it
                os.kill(child(process), number)
                assert process.wait(PATIENCE) == 128 + number
        finally:
            process.kill()
