"""A call whose request doesn't arrive ends after 10 s, and few can be open at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

import kekd
from kekd_server.rpc.grpcio_server import MAX_CALLS_WITHOUT_REQUEST, GrpcioServer
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import StartDaemon
from tests.integration.fixtures.wire import (
    DATA,
    OPENING,
    RST_STREAM,
    frame,
    head_frame,
    read_frame,
)
from tests.patience import eventually_async

GET = b"/kekd.v1.EnvelopeService/GetEnvelope"
REFLECTION = b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
ECHO, TALK = b"/test.Service/Echo", b"/test.Service/Talk"
STREAMS = 100
"""The limit of streams of a connection."""
A_PART = frame(DATA, 1, b"\0\0\0\xff\xff" + bytes(600))
"""A part of the message of call 1, which has 64 KiB."""


class HangingConnection:
    """A connection that begins calls and sends no requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._reading = asyncio.create_task(self._count(reader))
        self.ended = 0
        writer.write(OPENING)

    def begin(self, path: bytes) -> None:
        for stream in range(1, 2 * STREAMS, 2):
            self._writer.write(head_frame(stream, path))

    def write(self, frames: bytes) -> None:
        self._writer.write(frames)

    async def _count(self, reader: asyncio.StreamReader) -> None:
        while True:
            self.ended += (await read_frame(reader)).kind == RST_STREAM

    def close(self) -> None:
        self._reading.cancel()
        self._writer.close()


async def until_ended(connections: list[HangingConnection], count: int) -> None:
    await eventually_async(lambda: sum(one.ended for one in connections) >= count)


@asynccontextmanager
async def hanging(socket: Path, count: int = 1) -> AsyncIterator[list[HangingConnection]]:
    connections = [
        HangingConnection(*await asyncio.open_unix_connection(socket)) for _ in range(count)
    ]
    yield connections
    for one in connections:
        one.close()


async def same(request: bytes, _: object) -> bytes:
    return request


@asynccontextmanager
async def serving(
    socket: Path, answer: Callable[..., Any] = same, **limits: Any
) -> AsyncIterator[None]:
    async def talk(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    server = GrpcioServer((), **limits)
    methods: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(answer),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server.add_registered_method_handlers("test.Service", methods)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    yield
    await server.stop(None)


async def echo(socket: Path) -> bytes:
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call: Any = channel.unary_unary(ECHO.decode())
        answer: bytes = await call(b"served")
        return answer


@pytest.mark.parametrize("path", [ECHO, TALK], ids=["call", "stream"])
async def test_calls_without_a_request_are_ended_in_time(tmp_path: Path, path: bytes) -> None:
    socket = tmp_path / "socket"
    async with serving(socket, request_timeout=2), hanging(socket, 3) as connections:
        for one in connections:
            one.begin(path)
        assert await echo(socket) == b"served"
        await until_ended(connections, 3 * STREAMS)
        assert await echo(socket) == b"served"


async def test_call_with_a_partial_request_is_ended_in_time(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    async with serving(socket, request_timeout=0.2), hanging(socket) as (connection,):
        connection.write(head_frame(1, ECHO) + A_PART)
        await until_ended([connection], 1)


async def test_oldest_call_makes_room_for_a_new_one(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    async with serving(socket, max_calls_without_request=40), hanging(socket, 3) as connections:
        for one in connections:
            one.begin(ECHO)
        await until_ended(connections, 3 * STREAMS - 40)
        assert await echo(socket) == b"served"


async def test_call_in_progress_is_not_ended_as_unrequested(tmp_path: Path) -> None:
    socket, is_begun, may_answer = tmp_path / "socket", asyncio.Event(), asyncio.Event()

    async def wait(request: bytes, _: object) -> bytes:
        is_begun.set()
        await may_answer.wait()
        return request

    limits = {"request_timeout": 2, "max_calls_without_request": 20}
    async with serving(socket, wait, **limits), hanging(socket) as (connection,):
        waiting = asyncio.create_task(echo(socket))
        await is_begun.wait()
        connection.begin(TALK)
        await until_ended([connection], STREAMS)
        may_answer.set()
        assert await waiting == b"served"


@pytest.mark.parametrize("path", [GET, REFLECTION], ids=["get", "reflection"])
async def test_daemon_keeps_few_calls_that_wait_for_a_request(
    start_daemon: StartDaemon, path: bytes
) -> None:
    daemon = start_daemon("--memory")
    count = MAX_CALLS_WITHOUT_REQUEST // STREAMS + 3
    async with (
        kekd.AsyncClient(daemon.address) as client,
        hanging(daemon.socket, count) as connections,
    ):
        await client.push_index_kms(None, "kept", BLOB)
        for one in connections:
            one.begin(path)
            assert await client.get_index_kms(None, "kept") == BLOB
        await until_ended(connections, count * STREAMS - MAX_CALLS_WITHOUT_REQUEST)
        assert await client.get_index_kms(None, "kept") == BLOB
