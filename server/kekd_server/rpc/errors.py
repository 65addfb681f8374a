"""From an exception to a gRPC status: the one place where it is done."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from kekd_common.reasons import DOMAIN, STATUS, Reason
from kekd_server.access.principal import Caller
from kekd_server.model.errors import KekdError, RateLimitedError
from kekd_server.observability.logs import LogThrottle

_log = logging.getLogger(__name__)
_seldom: Final = LogThrottle()

Context = grpc.aio.ServicerContext[Any, Any]
Observed = Callable[[Context], AbstractContextManager[None]]
"""Entered when a call begins, and left as it ends, before its failure is translated."""

_LAST_WORDS_SECONDS: Final = 1.0
_MOST_SHOWN: Final = 255
"""Characters of a caller's name to send back: headers have a limit, and a bad name has none."""


async def abort_known(error: KekdError, request: Any, context: Context) -> None:
    index_name = (error.index_name or getattr(request, "index_name", ""))[:_MOST_SHOWN]
    metadata = {"index_name": index_name, "store": error.store}
    _log_cause(error, metadata)
    hints = [_retry_info(error)] if isinstance(error, RateLimitedError) else []
    await _abort(context, error.reason, str(error), metadata, *hints)


def log_causes(results: Iterable[object]) -> None:
    """Of those of a batch that failed; once of what is the same for many."""
    failures = {str(it): it for it in results if isinstance(it, KekdError)}
    for error in failures.values():
        _log_cause(error, {"index_name": error.index_name, "store": error.store})


def _log_cause(error: KekdError, metadata: dict[str, str]) -> None:
    # Of a store that is away, each call to it has the same to tell.
    if error.__cause__ and _seldom.is_due((error.store, str(error))):
        fields = {"reason": error.reason, **metadata}
        _log.warning("%s", error, extra=fields, exc_info=error.__cause__)


async def abort_unknown(context: Context, caller: Caller | None) -> None:
    """To be called while the exception is handled. It goes to the log whole, and over the wire only
    as a request id: its text wasn't written for callers.
    """
    request_id = caller.request_id if caller else secrets.token_hex(8)
    _log.exception("internal error", extra={"request_id": request_id})
    text = f"internal error: the daemon's log has it under request_id {request_id}."
    await _abort(context, Reason.INTERNAL, text, {"request_id": request_id})


def parser(kind: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    """Parses, and leaves it to `answering` to say that it couldn't.

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
    """Ends the call in the rich form of status, which google.rpc defines and grpcurl prints."""
    code = grpc.StatusCode[STATUS[reason]]
    status = status_pb2.Status(code=code.value[0], message=text)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    for detail in (info, *hints):
        status.details.add().Pack(detail)
    rich = (("grpc-status-details-bin", status.SerializeToString()),)
    try:
        async with asyncio.timeout(_LAST_WORDS_SECONDS):
            await context.abort(code, text, trailing_metadata=rich)
    except TimeoutError:
        # grpcio waits until the caller has read what comes before it, and sends it even if nobody
        # waits. It takes only this exception for an end.
        raise asyncio.CancelledError from None
