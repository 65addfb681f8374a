"""From an exception to a gRPC status: the one place where it is done."""

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from kekd_proto.reasons import DOMAIN, STATUS, Reason
from kekd_server.errors import InvalidRequestError, KekdError
from kekd_server.rpc.calls import Calls

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Awaitable[Any]]

_MOST_SHOWN: Final = 255
"""Characters of a caller's name to send back: headers have a limit, and a bad name has none."""


def answering_errors(method: Method, calls: Calls) -> Method:
    """A method whose `KekdError` becomes its reason's status, and any other exception INTERNAL.

    What is unknown goes to the log whole and over the wire only as a request id: its text wasn't
    written for callers. Each call counts among `calls` while it lasts.
    """

    async def call(request: Any, context: Context) -> Any:
        with calls:
            try:
                if isinstance(request, DecodeError):
                    raise InvalidRequestError("the request is no valid message of its type.")  # noqa: TRY301
                return await method(request, context)
            except KekdError as error:
                await _abort_known(error, request, context)
            except Exception:  # noqa: BLE001  (the boundary: nothing may pass it untranslated)
                await _abort_unknown(context)

    return call


async def _abort_known(error: KekdError, request: Any, context: Context) -> None:
    index_name = error.index_name or getattr(request, "index_name", "")[:_MOST_SHOWN]
    metadata = {"index_name": index_name, "store": error.store}
    if error.__cause__:
        fields = {"reason": error.reason, **metadata}
        _log.warning("%s", error, extra=fields, exc_info=error.__cause__)
    await _abort(context, error.reason, str(error), metadata)


async def _abort_unknown(context: Context) -> None:
    request_id = secrets.token_hex(8)
    _log.exception("internal error", extra={"request_id": request_id})
    text = f"internal error: the daemon's log has it under request_id {request_id}."
    await _abort(context, Reason.INTERNAL, text, {"request_id": request_id})


def parser(kind: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    """Parses, and leaves it to `answering_errors` to say that it couldn't.

    gRPC itself would answer UNKNOWN, and log a traceback that any caller could cause.
    """

    def parse(sent: bytes) -> Message | DecodeError:
        try:
            return kind.FromString(sent)
        except DecodeError as error:
            return error

    return parse


async def _abort(context: Context, reason: Reason, text: str, metadata: dict[str, str]) -> None:
    """Ends the call in the rich form of status, which google.rpc defines and grpcurl prints."""
    code = grpc.StatusCode[STATUS[reason]]
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    status = status_pb2.Status(code=code.value[0], message=text, details=[detail])
    rich = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, text, trailing_metadata=rich)
