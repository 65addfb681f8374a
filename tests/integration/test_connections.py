"""Idle connections take no descriptors from stores, and are closed."""

import asyncio
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import StartDaemon
from tests.fixtures.s3 import free_port
from tests.fixtures.tls import StartTlsDaemon
from tests.patience import PATIENCE

DESCRIPTORS = "400:400"
SILENT = 500


def test_daemon_raises_its_limit_of_descriptors(start_daemon: StartDaemon) -> None:
    pid = start_daemon("--memory", descriptors="300:600").process.pid
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (600, 600)


def test_silent_connections_leave_descriptors_for_stores(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    port = free_port()
    listen = ("--listen", f"127.0.0.1:{port}")
    disk = ("--disk", str(tmp_path / "keystore"))
    daemon = start_daemon(*listen, *disk, descriptors=DESCRIPTORS)
    with ExitStack() as stack:
        client = stack.enter_context(kekd.Client(daemon.address))
        client.push_index_kms(None, "first", BLOB)
        for _ in range(SILENT):
            silent = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            stack.enter_context(silent)
        for number in range(20):
            client.create_index_kms(None, f"i-{number}", BLOB)
    assert "Too many open files" not in daemon.read_log()


async def test_silent_connection_ends(start_tls_daemon: StartTlsDaemon) -> None:
    host, _, port = start_tls_daemon().address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""
    writer.close()
