"""Starts a kekd on a keystore folder, with policy, audit log and metrics as in production."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

import kekd
from bench.process import Server, free_port, running
from kekd_server.listeners.engine import EngineName

_POLICY = [
    {
        "name": "tenants",
        "identities": "spiffe://example.org/ns/*/sa/*",
        "indexes": "tenant-*",
        "methods": ["read", "list", "watch"],
    },
    {"name": "callers", "identities": ["listener:unix", "listener:tcp"], "methods": "*"},
]


@contextmanager
def on_socket(keystore: Path, engine: EngineName = "grpcio") -> Iterator[Server]:
    """Listens on a Unix socket beside the keystore."""
    with _daemon(keystore, f"unix:{keystore}.{engine}.run/kekd.sock", engine) as server:
        yield server


@contextmanager
def on_loopback(
    keystore: Path, engine: EngineName = "grpcio", workers: int = 1
) -> Iterator[Server]:
    """Listens on a free TCP port, for load generators that don't support Unix sockets."""
    with _daemon(keystore, f"127.0.0.1:{free_port()}", engine, workers) as server:
        yield server


@contextmanager
def _daemon(keystore: Path, address: str, engine: EngineName, workers: int = 1) -> Iterator[Server]:
    kekd_command = str(Path(sys.executable).with_name("kekd"))
    name = f"{keystore}.{engine}-{workers}"
    config = Path(f"{name}.yaml")
    config.write_text(yaml.safe_dump({"policy": _POLICY}))
    command = [
        *(kekd_command, "--listen", address, "--disk", str(keystore), "--create-stores"),
        *("--engine", engine, "--workers", str(workers), "--config", str(config)),
        *("--audit", f"{name}.audit", "--metrics", f"127.0.0.1:{free_port()}"),
    ]
    with running(command, address, Path(f"{name}.log")) as server:
        with kekd.Client(address) as client:
            client.wait()
        yield server
