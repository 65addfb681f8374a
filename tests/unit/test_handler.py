"""The handler around each method."""

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kekd_server.access.call_limits import CallLimits
from kekd_server.access.identity.principal import Principal
from kekd_server.access.request_context import RequestContext
from kekd_server.model.deadline import Deadline
from kekd_server.observability.metrics import Metrics
from kekd_server.rpc.handler import wrap
from kekd_server.rpc.in_flight import InFlightCalls
from kekd_server.rpc.instrumentation import ObservedCall


class Call:
    """A server's context of a call, which knows its task."""

    task: "asyncio.Future[Any]"

    def time_remaining(self) -> float:
        return 7.0

    def peer(self) -> str:
        return "unix:"


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
async def test_call_knows_its_deadline_and_is_freed_when_it_ends() -> None:
    async def method(_message: object, _context: object, request: RequestContext) -> Deadline:
        return request.deadline

    metrics = Metrics()
    limits = CallLimits(calls=1, rate=None, burst=1, metrics=metrics)
    principal = Principal("a", is_local=True)
    authenticator: Any = SimpleNamespace(authenticate=lambda _: principal)
    handler = wrap(
        method,
        in_flight=InFlightCalls(),
        authenticator=authenticator,
        limits=limits,
        instrument=lambda _: ObservedCall(metrics.calls.method("GetEnvelope")),
    )
    call: Any = Call()
    before = time.monotonic()
    call.task = asyncio.ensure_future(handler(None, call))
    assert before + 7.0 <= await call.task <= time.monotonic() + 7.0
    freed = weakref.ref(call)
    del call
    assert freed() is None
