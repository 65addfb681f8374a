"""An unread answer counts as a call in flight, and isn't kept for a caller that never reads."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from kekd_server.rpc.grpcio_server import GrpcioServer, is_supported
from tests.integration.fixtures.wire import DEAF_OPENING, RST_STREAM, call_frames, read_frame
from tests.patience import eventually_async

ECHO, FAIL = b"/test.Service/Echo", b"/test.Service/Fail"


class CountingServer:
    """A server in this process that counts its calls in flight."""

    def __init__(self, socket: Path, unread_timeout: float, *, answers_now: bool) -> None:
        self.socket = socket
        self.answered = self.ended = 0
        self.server = GrpcioServer((), unread_timeout=unread_timeout)
        methods: dict[str, Any] = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }
        self.server.add_registered_method_handlers("test.Service", methods)
        if answers_now:
            self.server.answers_now[ECHO.decode()] = self
        self.server.add_insecure_port(f"unix:{socket}")

    def answer(self, sent: bytes, _: str) -> bytes:
        """As an `AnswerNow`."""
        return sent

    def begin(self) -> Callable[[], None]:
        self.answered += 1
        return lambda: self.end(None)

    async def echo(self, request: bytes, _: object) -> bytes:
        self.count()
        return request

    async def fail(self, _: bytes, context: Any) -> None:
        self.count()
        await context.abort(grpc.StatusCode.ABORTED, "failed")

    def count(self) -> None:
        self.answered += 1
        cast("asyncio.Task[Any]", asyncio.current_task()).add_done_callback(self.end)

    def end(self, _: object) -> None:
        self.ended += 1


@pytest.fixture(params=[False, True], ids=["handled", "answered now"])
def answers_now(request: pytest.FixtureRequest) -> bool:
    """Whether the server answers before it calls a handler."""
    is_now: bool = request.param
    return is_now


@pytest.fixture
async def deaf_connection(
    tmp_path: Path, request: pytest.FixtureRequest, answers_now: bool
) -> AsyncIterator[tuple[CountingServer, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server, and a connection to it without room for answers."""
    timeout = getattr(request, "param", 60.0)
    served = CountingServer(tmp_path / "socket", timeout, answers_now=answers_now)
    await served.server.start()
    reader, writer = await asyncio.open_unix_connection(served.socket)
    writer.write(DEAF_OPENING)
    yield served, reader, writer
    writer.close()
    await served.server.stop(None)


def test_installed_grpcio_is_supported() -> None:
    assert is_supported()


async def echo(channel: grpc.aio.Channel, message: bytes) -> bytes:
    call: Any = channel.unary_unary(ECHO.decode())
    answer: bytes = await call(message)
    return answer


@pytest.mark.parametrize("deaf_connection", [0.2], indirect=True)
async def test_unread_answer_is_terminated(deaf_connection: Any) -> None:
    served, reader, writer = deaf_connection
    writer.write(call_frames(1, ECHO, bytes(10_000)))
    while (frame := await read_frame(reader)).kind != RST_STREAM:
        pass
    assert frame.stream == 1
    await eventually_async(lambda: served.ended == 1)


async def test_call_lasts_until_its_answer_was_read(deaf_connection: Any) -> None:
    served, _, writer = deaf_connection
    writer.write(call_frames(1, ECHO, bytes(10_000)))
    await eventually_async(lambda: served.answered == 1)
    async with grpc.aio.insecure_channel(f"unix:{served.socket}") as channel:
        await echo(channel, b"read")
        await eventually_async(lambda: served.ended == 1)
        assert served.answered == 2
    writer.write(b"\0\0\4\x08\0\0\0\0\1" + (20_000).to_bytes(4))  # a WINDOW_UPDATE of the stream
    await eventually_async(lambda: served.ended == 2)


async def test_call_lasts_until_its_caller_disconnects(deaf_connection: Any) -> None:
    served, _, writer = deaf_connection
    writer.write(call_frames(1, ECHO, bytes(10_000)))
    await eventually_async(lambda: served.answered == 1)
    writer.close()
    await eventually_async(lambda: served.ended == 1)


async def test_failed_call_ends_without_room_for_its_answer(deaf_connection: Any) -> None:
    served, _, writer = deaf_connection
    writer.write(call_frames(1, FAIL, b""))
    await eventually_async(lambda: served.ended == 1)


async def test_stop_ends_unread_answers(deaf_connection: Any) -> None:
    served, _, writer = deaf_connection
    writer.write(call_frames(1, ECHO, bytes(10_000)))
    await eventually_async(lambda: served.answered == 1)
    await served.server.stop(0.1)
    await eventually_async(lambda: served.ended == 1)


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
async def test_finished_call_leaves_nothing_to_collect(deaf_connection: Any) -> None:
    served, _, _ = deaf_connection
    async with grpc.aio.insecure_channel(f"unix:{served.socket}") as channel:
        fail: Any = channel.unary_unary(FAIL.decode())
        for _ in range(50):
            await echo(channel, b"read")
            await asyncio.wait([asyncio.ensure_future(fail(b"").code())])
    await eventually_async(lambda: served.ended == 100)
    kept = Counter(type(value).__name__ for value in gc.get_objects())
    assert kept["_Call"] + kept["_ServicerContext"] < 10
    assert kept["RPCState"] < 10


async def test_path_that_is_no_text_is_unimplemented(deaf_connection: Any) -> None:
    served, reader, writer = deaf_connection
    writer.write(call_frames(1, b"/\xff", b""))
    while b"Method not found!" not in (await read_frame(reader)).payload:
        pass
    async with grpc.aio.insecure_channel(f"unix:{served.socket}") as channel:
        assert await echo(channel, b"served") == b"served"
