"""A real kekd over one keystore folder."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kekd
from bench.process import Server, free_port, running


@contextmanager
def on_socket(keystore: Path) -> Iterator[Server]:
    """Listens on a Unix socket beside the keystore."""
    with _daemon(keystore, f"unix:{keystore}.run/kekd.sock") as server:
        yield server


@contextmanager
def on_loopback(keystore: Path) -> Iterator[Server]:
    """Listens on a free TCP port, for load generators that know only those."""
    with _daemon(keystore, f"127.0.0.1:{free_port()}") as server:
        yield server


@contextmanager
def _daemon(keystore: Path, address: str) -> Iterator[Server]:
    kekd_command = str(Path(sys.executable).with_name("kekd"))
    command = [kekd_command, "--listen", address, "--disk", str(keystore)]
    with running(command, address, Path(f"{keystore}.log")) as server:
        with kekd.Client(address) as client:
            client.wait()
        yield server
