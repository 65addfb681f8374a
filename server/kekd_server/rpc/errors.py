"""From an exception to a gRPC status: the one place where it is done."""

import functools
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from kekd_proto.reasons import DOMAIN, STATUS, Reason
from kekd_server.errors import KekdError

_log = logging.getLogger(__name__)

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Answer = TypeVar("Answer")
Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Servicer, Request, Context], Awaitable[Answer]]


def answering_errors(
    handler: "Handler[Servicer, Request, Answer]",
) -> "Handler[Servicer, Request, Answer]":
    """A handler whose `KekdError` becomes its reason's status, and any other exception INTERNAL.

    What is unknown goes to the log whole and over the wire only as a request id: its text wasn't
    written for callers.
    """

    @functools.wraps(handler)
    async def answering(servicer: Servicer, request: Request, context: Context) -> Answer:
        try:
            return await handler(servicer, request, context)
        except KekdError as error:
            if error.__cause__:
                _log.warning("%s", error, extra=_fields(error), exc_info=error.__cause__)
            await _abort(context, error.reason, str(error), _metadata(error))
        except Exception:  # noqa: BLE001  (the boundary: nothing may pass it untranslated)
            request_id = secrets.token_hex(8)
            _log.exception("internal error", extra={"request_id": request_id})
            message = f"internal error: the daemon's log has it under request_id {request_id}."
            await _abort(context, Reason.INTERNAL, message, {"request_id": request_id})

    return answering


def _fields(error: KekdError) -> dict[str, str]:
    return {"reason": error.reason, **_metadata(error)}


def _metadata(error: KekdError) -> dict[str, str]:
    return {"index_name": error.index_name, "store": error.store}


async def _abort(
    context: Context, reason: Reason, message: str, metadata: dict[str, str]
) -> NoReturn:
    """Ends the call in the rich form of status, which google.rpc defines and grpcurl prints."""
    code = grpc.StatusCode[STATUS[reason]]
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
    rich = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, message, trailing_metadata=rich)
    raise AssertionError("abort returned")
