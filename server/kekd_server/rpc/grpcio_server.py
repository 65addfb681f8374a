"""grpcio's asyncio server, with an accept loop of kekd's own.

grpcio's own loop has three faults that its options and interceptors can't fix. A call to an unknown
method whose path isn't UTF-8 ends the whole server. An answer that the caller doesn't read stays in
memory as long as the connection lasts. And the loop waits as long for a request that never arrives.

This module uses undocumented names of grpcio. `is_supported` checks that they exist; otherwise
grpcio's own loop serves.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from grpc._cython import cygrpc
from grpc.aio import AbortError, _server

from kekd_server.observability.logs import LogThrottle
from kekd_server.rpc.answer_now import AnswerNow, AnswerNowServer

UNREAD_TIMEOUT: Final = 10.0
"""Seconds for a caller to read a response."""

REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a caller to send a request, also a stream of requests."""

MAX_CALLS_WITHOUT_REQUEST: Final = 1000
"""Maximum number of calls whose request hasn't arrived: about 30 MB with the largest metadata.

One more ends the oldest. Refusing the newest instead would let callers who send no requests block
all others. A normal call waits only milliseconds for its request, so it is rarely the oldest.
"""

_FUNCTIONS: Final = (
    *("_handle_rpc", "_schedule_rpc_coro", "_receive_message", "execute_batch"),
    *("_finish_handler_with_unary_response", "_ServicerContext", "ExecuteBatchError"),
    *("SendInitialMetadataOperation", "SendMessageOperation", "SendStatusFromServerOperation"),
    "ReceiveCloseOnServerOperation",
)
_METHODS: Final = (
    "_make_request_call_future",
    "_request_call",
    "_request_registered_call",
    "add_registered_method_handlers",
)
_NO_REQUEST: Final = "a call whose caller did not send its request"
_NO_READER: Final = "a response that its caller did not read"
_CHECKS: Final = 10
"""Checks per timeout."""

Options = Sequence[tuple[str, Any]]
Handler = Any
"""A named tuple of grpcio, which its stubs don't declare as one."""

_log = logging.getLogger(__name__)


def is_supported() -> bool:
    return all(hasattr(cygrpc, name) for name in _FUNCTIONS) and all(
        hasattr(cygrpc.AioServer, name) for name in _METHODS
    )


class GrpcioServer(AnswerNowServer, _server.Server):
    """Serves registered methods; all others are UNIMPLEMENTED.

    A method with a stream of responses must be a coroutine, not a generator. The task of a call
    lasts until the caller has read the response or is gone. The server terminates calls whose
    response isn't read within `unread_timeout`, or whose requests take longer than
    `request_timeout`.
    """

    def __init__(
        self,
        options: Options,
        *,
        unread_timeout: float = UNREAD_TIMEOUT,
        request_timeout: float = REQUEST_TIMEOUT,
        max_calls_without_request: int = MAX_CALLS_WITHOUT_REQUEST,
    ) -> None:
        AnswerNowServer.__init__(self)
        self._loop = asyncio.get_running_loop()
        self._server = _Acceptor(self._loop, None, (), None, options, None)
        self._server.answers_now = self.answers_now
        self._server.waiting = _PendingCalls(
            requests=_CallTimeouts(
                request_timeout, _NO_REQUEST, max_calls=max_calls_without_request
            ),
            answers=_CallTimeouts(unread_timeout, _NO_READER),
        )


class _Acceptor(cygrpc.AioServer):  # type: ignore[misc]  # grpcio has no types for its core
    """Accepts calls in place of grpcio's loop, which only waits for these tasks."""

    waiting: "_PendingCalls"
    answers_now: Mapping[str, AnswerNow]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._handlers: dict[str, Handler] = {}
        self._running: set[_Call] = set()

    def add_registered_method_handlers(self, handlers: Mapping[str, Handler]) -> None:
        super().add_registered_method_handlers(handlers)
        self._handlers.update(handlers)

    def _make_request_call_future(self, path: bytes | None) -> "asyncio.Task[None]":
        """Accepts the calls to one method, or for None those to all unregistered methods."""
        return asyncio.create_task(self._accept(path))

    async def _accept(self, path: bytes | None) -> None:
        """Raises an error of grpcio when the server is stopped."""
        name = path.decode() if path else "unknown"
        next_call = partial(self._request_registered_call, path) if path else self._request_call
        while True:
            call = _Call(
                self._handlers.get(name), self.answers_now.get(name), self.waiting, self._running
            )
            # No variable for the state: a call lives as long as something refers to its state.
            call.begin(name, await next_call())


class _Call:
    """A call from its acceptance until its response is read, or until it is terminated."""

    _handler_task: "asyncio.Task[Any] | None" = None
    _rpc_task: "asyncio.Task[None]"

    def __init__(
        self,
        handler: Handler | None,
        answer_now: AnswerNow | None,
        waiting: "_PendingCalls",
        running: "set[_Call]",
    ) -> None:
        self._handler = handler
        self._answer_now = answer_now
        self._waiting = waiting
        self._running = running

    def begin(self, name: str, state: Any) -> None:
        loop = asyncio.get_running_loop()
        handling: Coroutine[Any, Any, None]
        if self._handler and self._answer_now:
            handling = self._answer_or_handle(self._handler, self._answer_now, name, state)
        else:
            answering = cygrpc._handle_rpc(name, _Resolver(self), (), state, loop, False)  # noqa: FBT003, SLF001
            handling = cygrpc._schedule_rpc_coro(answering, state, loop, name)  # noqa: SLF001
        self._rpc_task = loop.create_task(handling)
        self._running.add(self)
        self._waiting.requests.add(self)
        self._rpc_task.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self._running.discard(self)
        self._waiting.requests.remove(self)
        self._waiting.answers.remove(self)

    def handler(self) -> Handler | None:
        """Returns the handler. Must run in the task that answers the call."""
        self._handler_task = asyncio.current_task()
        handler = self._handler
        if handler and handler.unary_unary:
            return handler._replace(unary_unary=partial(self._answer, handler.unary_unary))
        if handler and asyncio.iscoroutinefunction(handler.unary_stream):
            return handler._replace(unary_stream=partial(self._answer, handler.unary_stream))
        return handler

    async def _answer_or_handle(
        self, handler: Handler, answer_now: AnswerNow, name: str, state: Any
    ) -> None:
        """Answers now, or does what grpcio does for a method with one request and one response."""
        loop = asyncio.get_running_loop()
        sent = await cygrpc._receive_message(state, loop)  # noqa: SLF001
        if sent is None:  # the caller is gone
            return
        context = cygrpc._ServicerContext(state, None, None, loop)  # noqa: SLF001
        failure = None
        try:
            answer = answer_now.answer(sent, context.peer())
            if answer is not None:
                end = answer_now.begin()
        except Exception as error:  # noqa: BLE001  (the handler answers it)
            answer, failure = None, error
        if answer is None:
            answering = self._handle(handler, failure or sent, state, context)
            await cygrpc._schedule_rpc_coro(answering, state, loop, name)  # noqa: SLF001
            return
        self._waiting.requests.remove(self)
        self._waiting.answers.add(self)
        try:
            await cygrpc.execute_batch(state, _operations(answer), loop)
        except cygrpc.ExecuteBatchError:
            pass  # the caller is gone
        finally:
            end()

    async def _handle(
        self, handler: Handler, sent: bytes | Exception, state: Any, context: Any
    ) -> None:
        self._handler_task = asyncio.current_task()
        await cygrpc._finish_handler_with_unary_response(  # noqa: SLF001
            state,
            partial(self._answer, handler.unary_unary),
            sent if isinstance(sent, Exception) else handler.request_deserializer(sent),
            context,
            handler.response_serializer,
            asyncio.get_running_loop(),
        )

    async def _answer(self, behavior: Any, request: Any, context: Any) -> Any:
        self._waiting.requests.remove(self)
        answer = behavior(request, context)
        del request, context
        try:
            return await answer
        except AbortError as error:
            # grpcio keeps the error with the call, and the error's frames would keep the call.
            error.__context__ = None
            raise error.with_traceback(None) from None
        finally:
            self._waiting.answers.add(self)

    def terminate(self) -> None:
        """Ends both tasks, which hold the call. gRPC then resets the stream."""
        if self._handler_task:
            self._handler_task.cancel()
        self._rpc_task.cancel()


def _operations(answer: bytes) -> tuple[Any, ...]:
    """Returns what grpcio would send, and await, in several batches."""
    return (
        cygrpc.SendInitialMetadataOperation((), 0),
        cygrpc.SendMessageOperation(answer, 0),
        cygrpc.SendStatusFromServerOperation((), 0, "", 0),
        cygrpc.ReceiveCloseOnServerOperation(0),
    )


class _Resolver:
    """Returns a call's handler once, and forgets the call: grpcio keeps resolvers in a cycle."""

    __slots__ = ("_call",)

    def __init__(self, call: _Call) -> None:
        self._call: _Call | None = call

    def resolve_handler(self, _: object) -> Handler | None:
        call, self._call = self._call, None
        return call.handler() if call else None


class _CallTimeouts:
    """Calls that wait for their caller, from the oldest to the newest."""

    def __init__(self, timeout: float, what: str, *, max_calls: int | None = None) -> None:
        """`what` describes a terminated call in the log. At most `max_calls` wait at once."""
        self._timeout = timeout
        self._what = what
        self._max_calls = max_calls
        # Not a dict, which scans past all deleted keys to find its first one.
        self._since: OrderedDict[_Call, float] = OrderedDict()
        self._next_check: asyncio.TimerHandle | None = None
        self._throttle = LogThrottle()

    def add(self, call: _Call) -> None:
        self._since[call] = time.monotonic()
        if self._max_calls and len(self._since) > self._max_calls:
            self._terminate(
                next(iter(self._since)), f"because more than {self._max_calls} were waiting"
            )
        if not self._next_check:
            self._terminate_overdue()

    def remove(self, call: _Call) -> None:
        self._since.pop(call, None)

    def _terminate_overdue(self) -> None:
        too_old = time.monotonic() - self._timeout
        for call, since in list(self._since.items()):
            if since > too_old:
                break
            self._terminate(call, f"in {self._timeout:g} s")
        pause = self._timeout / _CHECKS
        loop = asyncio.get_running_loop()
        self._next_check = loop.call_later(pause, self._terminate_overdue) if self._since else None

    def _terminate(self, call: _Call, why: str) -> None:
        self.remove(call)
        call.terminate()
        if self._throttle.is_due(None):
            _log.warning("terminated %s %s", self._what, why)


class _PendingCalls(NamedTuple):
    """The calls of a server that wait for a request or a reader."""

    requests: _CallTimeouts
    answers: _CallTimeouts
