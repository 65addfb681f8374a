"""What surrounds every call."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from kekd_server.access.principal import Caller
from kekd_server.access.rate_limits import Limits
from kekd_server.model import deadline
from kekd_server.observability.metrics import Metrics
from kekd_server.rpc.handler import answering
from kekd_server.rpc.in_flight import InFlightCalls


class Call:
    """As an engine's: it knows its task."""

    task: "asyncio.Future[Any]"

    def time_remaining(self) -> float:
        return 7.0


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
async def test_a_call_knows_its_deadline_and_is_gone_when_it_is_over() -> None:
    async def method(*_: object) -> float | None:
        return deadline.left.get()()

    def observed(_: object) -> AbstractContextManager[None]:
        return nullcontext()

    limits = Limits(calls=1, rate=None, burst=1, metrics=Metrics())
    nobody: Any = SimpleNamespace(of=lambda _: Caller("a", is_local=True, peer=""))
    handler = answering(
        method, calls=InFlightCalls(), callers=nobody, limits=limits, observed=observed
    )
    call: Any = Call()
    call.task = asyncio.ensure_future(handler(None, call))
    assert await call.task == 7.0
    gone = weakref.ref(call)
    del call
    assert gone() is None
