"""Wraps each method: authentication, limits, instrumentation, and the translation of errors."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from google.protobuf.message import DecodeError

from kekd_server.access.call_limits import CallLimits
from kekd_server.access.request_context import RequestContext
from kekd_server.model.deadline import deadline_in
from kekd_server.model.errors import InvalidRequestError, KekdError, ShuttingDownError
from kekd_server.rpc.authentication import Authenticator
from kekd_server.rpc.errors import INVALID_MESSAGE, Context, abort_known, abort_unknown
from kekd_server.rpc.in_flight import InFlightCalls
from kekd_server.rpc.instrumentation import Instrument

Method = Callable[[Any, Context, RequestContext], Awaitable[Any]]
Handler = Callable[[Any, Context], Awaitable[Any]]


def wrap(  # noqa: PLR0913
    method: Method,
    *,
    in_flight: InFlightCalls,
    authenticator: Authenticator,
    limits: CallLimits,
    instrument: Instrument,
    is_watch: bool = False,
) -> Handler:
    """Returns a handler that answers a `KekdError` with the status of its reason, and any other
    exception with INTERNAL, also one that it gets in place of a request.

    A call counts as in flight, and against the limits of its caller, until its task has ended: on
    grpcio, until its response was read or terminated.
    """
    # Once, because Python 3.11 looks it up with a system call.
    loop = asyncio.get_running_loop()

    async def handle(message: Any, context: Context) -> Any:
        request: RequestContext | None = None

        def end(_: object) -> None:
            in_flight.end()
            if request:
                request.lease.release()

        in_flight.begin()
        # Not the context's own callbacks: grpcio keeps them in a cycle, and the call with it.
        cast("asyncio.Task[Any]", asyncio.current_task(loop)).add_done_callback(end)
        try:
            with instrument(context) as observed:
                if in_flight.is_stopping:
                    raise ShuttingDownError  # noqa: TRY301
                limits.check_calls(in_flight.running)
                principal = authenticator.authenticate(context)
                request = RequestContext(
                    principal,
                    peer=context.peer(),
                    deadline=deadline_in(context.time_remaining()),
                    lease=limits.begin(principal.identity, is_watch=is_watch),
                    on_store_selected=observed.set_store,
                )
                limits.check_rate(principal.identity)
                if isinstance(message, Exception):
                    raise _failure(message)  # noqa: TRY301
                return await method(message, context, request)
        except KekdError as error:
            await abort_known(error, message, context)
        except Exception:  # noqa: BLE001  (the boundary: no exception may pass it untranslated)
            await abort_unknown(context, request)

    return handle


def _failure(error: Exception) -> Exception:
    return InvalidRequestError(INVALID_MESSAGE) if isinstance(error, DecodeError) else error
