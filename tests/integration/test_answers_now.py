"""The thread in which the native engine answers a call now."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from kekd_server.listeners.listener import parse
from kekd_server.rpc.answer_now import AnswerNow, AnswerNowServer
from kekd_server.rpc.engines import ConnectionLimits, make_server

PATH = "/test.Service/Echo"


class Answers(AnswerNow):
    works_in_any_thread = True

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def answer(self, sent: bytes, _: str) -> bytes | None:
        self.threads.append(threading.current_thread())
        if sent == b"ordinary":
            return None
        if sent == b"fail":
            raise ValueError
        return b"now"

    def begin(self) -> Callable[[], None]:
        raise NotImplementedError


async def echo(request: bytes | Exception, _: object) -> bytes:
    return b"failed" if isinstance(request, ValueError) else bytes(request)  # type: ignore[arg-type]


@asynccontextmanager
async def serve(answers: AnswerNow, socket: Path) -> AsyncIterator[Any]:
    """Yields a stub of the method."""
    address = f"unix:{socket}"
    server = make_server(parse(address, "native"), ConnectionLimits(), max_connections=8)
    assert isinstance(server, AnswerNowServer)
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_registered_method_handlers("test.Service", handlers)
    server.answers_now[PATH] = answers
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel.unary_unary(PATH)
    await server.stop(None)


@pytest.mark.parametrize("in_any_thread", [True, False])
async def test_call_is_answered_outside_the_loop_if_that_works(
    tmp_path: Path, in_any_thread: bool
) -> None:
    answers = Answers()
    answers.works_in_any_thread = in_any_thread
    async with serve(answers, tmp_path / "s") as call:
        assert await call(b"sent") == b"now"
    (thread,) = answers.threads
    assert (thread is threading.main_thread()) != in_any_thread


async def test_call_without_an_answer_is_tried_once_and_takes_the_ordinary_path(
    tmp_path: Path,
) -> None:
    answers = Answers()
    async with serve(answers, tmp_path / "s") as call:
        assert await asyncio.gather(*map(call, [b"ordinary", b"sent"])) == [b"ordinary", b"now"]
    assert len(answers.threads) == 2


async def test_failure_outside_the_loop_is_answered_by_the_handler(
    tmp_path: Path,
) -> None:
    answers = Answers()
    async with serve(answers, tmp_path / "s") as call:
        assert await call(b"fail") == b"failed"
    assert len(answers.threads) == 1
