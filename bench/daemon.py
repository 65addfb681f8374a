"""Starts a kekd on a keystore folder, with policy, audit log and metrics as in production."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

import kekd
from bench.process import Server, free_port, running
from kekd_server.listeners.engine import EngineName

_KEKD = str(Path(sys.executable).with_name("kekd"))
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
def on_socket(
    keystore: Path, engine: EngineName = "grpcio", flags: Sequence[str] = ()
) -> Iterator[Server]:
    """Listens on a Unix socket beside the keystore."""
    address = f"unix:{keystore}.{engine}.run/kekd.sock"
    with _daemon(keystore, address, engine, flags=flags) as server:
        yield server


@contextmanager
def on_loopback(
    keystore: Path, engine: EngineName = "grpcio", workers: int = 1
) -> Iterator[Server]:
    """Listens on a free TCP port, for load generators that don't support Unix sockets."""
    with _daemon(keystore, f"127.0.0.1:{free_port()}", engine, workers) as server:
        yield server


@contextmanager
def on_bucket(
    folder: Path, flags: Sequence[str], *, engine: EngineName, checkout: Path | None = None
) -> Iterator[Server]:
    """Serves the store that `flags` select, by default with the kekd of this interpreter. A
    checkout has its own in `.venv`.
    """
    command = str(checkout / ".venv/bin/kekd") if checkout else _KEKD
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    with _running(command, folder / "kekd", address, [*flags, "--engine", engine]) as server:
        yield server


@contextmanager
def _daemon(
    keystore: Path,
    address: str,
    engine: EngineName,
    workers: int = 1,
    flags: Sequence[str] = (),
) -> Iterator[Server]:
    flags = ("--disk", str(keystore), "--engine", engine, "--workers", str(workers), *flags)
    name = keystore.with_name(f"{keystore.name}.{engine}-{workers}")
    with _running(_KEKD, name, address, flags) as server:
        yield server


@contextmanager
def _running(command: str, name: Path, address: str, flags: Sequence[str]) -> Iterator[Server]:
    """Puts its files beside each other, with names that start alike."""
    config = Path(f"{name}.yaml")
    config.write_text(yaml.safe_dump({"policy": _POLICY}))
    arguments = [
        *("--listen", address, *flags, "--create-stores", "--config", str(config)),
        *("--audit", f"{name}.audit", "--metrics", f"127.0.0.1:{free_port()}"),
    ]
    with running([command, *arguments], address, Path(f"{name}.log")) as server:
        with kekd.Client(address) as client:
            client.wait()
        yield server
