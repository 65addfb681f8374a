"""Translates exceptions to gRPC statuses."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from kekd_common.reasons import DOMAIN, STATUS, Reason
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import KekdError, RateLimitedError
from kekd_server.observability.logs import LogThrottle

_log = logging.getLogger(__name__)
_throttle: Final = LogThrottle()

Context = grpc.aio.ServicerContext[Any, Any]

INVALID_MESSAGE: Final = "the request is not a valid message of its type"

_ABORT_TIMEOUT: Final = 1.0
_MAX_NAME_CHARACTERS: Final = 255
"""Of an index name to send back: headers have a limit, and an invalid name has none."""


async def abort_known(error: KekdError, message: Any, context: Context) -> None:
    index_name = (error.index_name or getattr(message, "index_name", ""))[:_MAX_NAME_CHARACTERS]
    metadata = {"index_name": index_name, "store": error.store}
    _log_cause(error, metadata)
    hints = [_retry_info(error)] if isinstance(error, RateLimitedError) else []
    await _abort(context, error.reason, str(error), metadata, *hints)


def log_causes(results: Iterable[object]) -> None:
    """Logs the causes of a batch's failures, and a cause that several entries share only once."""
    failures = {str(result): result for result in results if isinstance(result, KekdError)}
    for error in failures.values():
        _log_cause(error, {"index_name": error.index_name, "store": error.store})


def _log_cause(error: KekdError, metadata: dict[str, str]) -> None:
    # While a store is down, each call to it fails for the same cause, which the text names. Only
    # errors of one envelope, such as a corrupt one, have an index name.
    problem = (error.store, error.reason, type(error.__cause__), error.index_name)
    if error.__cause__ and _throttle.is_due(problem):
        _log.warning("%s", error, extra={"reason": error.reason, **metadata})


async def abort_unknown(context: Context, request: RequestContext | None) -> None:
    """Call it while the exception is handled. The log gets the whole exception, the caller only a
    request id: the text of the exception may contain secrets.
    """
    request_id = request.request_id if request else secrets.token_hex(8)
    _log.exception("internal error", extra={"request_id": request_id})
    text = f"internal error: the daemon's log has the cause, with request_id {request_id}"
    await _abort(context, Reason.INTERNAL, text, {"request_id": request_id})


def parser(kind: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    """Returns a parser that returns its error, for the handler to answer.

    gRPC itself would answer UNKNOWN, and log a traceback that any caller could cause.
    """

    def parse(sent: bytes) -> Message | DecodeError:
        try:
            return kind.FromString(sent)
        except DecodeError as error:
            return error

    return parse


def _retry_info(error: RateLimitedError) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(error.retry_seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


async def _abort(
    context: Context, reason: Reason, text: str, metadata: dict[str, str], *hints: Message
) -> None:
    """Ends the call with a `google.rpc.Status`, which grpcurl prints."""
    code = grpc.StatusCode[STATUS[reason]]
    status = status_pb2.Status(code=code.value[0], message=text)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    for detail in (info, *hints):
        status.details.add().Pack(detail)
    rich = (("grpc-status-details-bin", status.SerializeToString()),)
    try:
        async with asyncio.timeout(_ABORT_TIMEOUT):
            await context.abort(code, text, trailing_metadata=rich)
    except TimeoutError:
        # grpcio waits until the caller has read the stream so far. Only a cancellation ends it.
        raise asyncio.CancelledError from None
