"""A connection that floods the daemon with calls doesn't starve the others."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import StartDaemon, both_engines
from tests.fixtures.s3 import free_port
from tests.integration.fixtures.wire import CANCEL, OPENING, RST_STREAM, call_frames, frame
from tests.patience import PATIENCE

pytestmark = pytest.mark.torture

GETS = 20
"""Gets of another caller. Without the limit on streams, grpcio answers none of them in time."""

STREAM = 0x7FEEDDCC
"""Placeholder for the stream id of a call."""
GET = call_frames(STREAM, b"/kekd.v1.EnvelopeService/GetEnvelope", b"\x12\x04kept")
GET_AND_RESET = GET + frame(RST_STREAM, STREAM, CANCEL)
"""The pattern of CVE-2023-44487."""

FLOOD = """
import contextlib, itertools, socket, sys, threading
port, stream, opening, call = int(sys.argv[1]), *map(bytes.fromhex, sys.argv[2:])
def discard(connection):
    with contextlib.suppress(OSError):
        while connection.recv(2**20):
            pass
while True:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(opening)
        threading.Thread(target=discard, args=[connection], daemon=True).start()
        for first in itertools.count(1, 200):
            numbers = range(first, first + 200, 2)
            calls = (call.replace(stream, number.to_bytes(4)) for number in numbers)
            connection.sendall(b"".join(calls))
            print(flush=True)
"""
"""A process, because a thread would compete for the GIL. It opens one connection at a time."""


@contextlib.contextmanager
def flooding(port: int, call: bytes) -> Iterator[None]:
    arguments = [str(port), *(frames.hex() for frames in (STREAM.to_bytes(4), OPENING, call))]
    with subprocess.Popen(
        [sys.executable, "-S", "-c", FLOOD, *arguments], stdout=subprocess.PIPE
    ) as flood:
        assert flood.stdout
        for _ in range(10):
            assert flood.stdout.readline()
        try:
            yield
        finally:
            flood.kill()


@both_engines
@pytest.mark.parametrize("call", [GET_AND_RESET, GET], ids=["get and reset", "get"])
def test_flood_on_one_connection_leaves_the_others_their_share(
    start_daemon: StartDaemon, call: bytes
) -> None:
    port = free_port()
    daemon = start_daemon("--memory", "--listen", f"127.0.0.1:{port}")
    with kekd.Client(daemon.address) as client:
        client.push_index_kms(None, "kept", BLOB)
    with flooding(port, call):
        for _ in range(GETS):
            with kekd.Client(f"127.0.0.1:{port}", timeout=PATIENCE) as client:
                assert client.get_index_kms(None, "kept") == BLOB
