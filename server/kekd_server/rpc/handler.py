"""What surrounds every call: who makes it, whether it isn't too much, and what it ends with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from google.protobuf.message import DecodeError

from kekd_server.access.principal import Caller
from kekd_server.access.rate_limits import Limits
from kekd_server.model import deadline
from kekd_server.model.errors import InvalidRequestError, KekdError, ShuttingDownError
from kekd_server.rpc.authentication import Authenticator
from kekd_server.rpc.errors import (
    Context,
    Observed,
    abort_known,
    abort_unknown,
)
from kekd_server.rpc.in_flight import InFlightCalls

Method = Callable[[Any, Context, Caller], Awaitable[Any]]
Handler = Callable[[Any, Context], Awaitable[Any]]


def answering(  # noqa: PLR0913
    method: Method,
    *,
    calls: InFlightCalls,
    callers: Authenticator,
    limits: Limits,
    observed: Observed,
    is_watch: bool = False,
) -> Handler:
    """A method whose `KekdError` becomes its reason's status, and any other exception INTERNAL.

    Each call is observed while it is answered. Until its task is done it counts among `calls`, and
    against the limits of its caller: on grpcio, until its answer was read or terminated.
    """

    async def call(request: Any, context: Context) -> Any:
        caller: Caller | None = None

        def end(_: object) -> None:
            calls.end()
            if caller:
                caller.lease.release()

        calls.begin()
        # Not the context's own callbacks: grpcio keeps them in a cycle, and the call with it.
        cast("asyncio.Task[Any]", asyncio.current_task()).add_done_callback(end)
        left = deadline.left.set(context.time_remaining)
        try:
            with observed(context):
                if calls.refused:
                    raise ShuttingDownError  # noqa: TRY301
                limits.check_calls(calls.running)
                caller = callers.of(context)
                caller.lease = limits.begin(caller.identity, is_watch=is_watch)
                limits.check_rate(caller.identity)
                if isinstance(request, DecodeError):
                    raise InvalidRequestError("the request is no valid message of its type.")  # noqa: TRY301
                return await method(request, context, caller)
        except KekdError as error:
            await abort_known(error, request, context)
        except Exception:  # noqa: BLE001  (the boundary: nothing may pass it untranslated)
            await abort_unknown(context, caller)
        finally:
            # Else the call and its task would hold each other, until there is a collection.
            deadline.left.reset(left)

    return call
