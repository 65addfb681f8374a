"""The gRPC face of the service: check, convert, call, convert."""

import asyncio
from typing import Final

from google.protobuf.message import Message

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.access.principal import Caller
from kekd_server.model.errors import ShuttingDownError, WatchFellBehindError
from kekd_server.rpc import convert
from kekd_server.rpc.answer_budget import EnvelopeReader
from kekd_server.rpc.errors import Context, log_causes
from kekd_server.service import EnvelopeService
from kekd_server.storage.write_attempt import WriteAttempt

_PREVIOUS_ATTEMPTS: Final = "grpc-previous-rpc-attempts"
"""Sent by gRPC itself with a call that it retries
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md)."""

_HEARTBEAT_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 10.0
"""How long a watcher may leave what is sent untaken."""


class EnvelopeServicer:
    def __init__(self, service: EnvelopeService) -> None:
        self._service = service

    async def CreateEnvelope(
        self, request: pb.CreateEnvelopeRequest, context: Context, caller: Caller
    ) -> pb.CreateEnvelopeResponse:
        etag = await self._service.create(
            caller,
            convert.location(request),
            convert.index_name(request.index_name),
            convert.envelope(request),
            attempt=_attempt(request, context, caller),
        )
        return pb.CreateEnvelopeResponse(etag=etag)

    async def PushEnvelope(
        self, request: pb.PushEnvelopeRequest, context: Context, caller: Caller
    ) -> pb.PushEnvelopeResponse:
        etag = await self._service.push(
            caller,
            convert.location(request),
            convert.push(request),
            attempt=_attempt(request, context, caller),
        )
        return pb.PushEnvelopeResponse(etag=etag)

    async def GetEnvelope(
        self, request: pb.GetEnvelopeRequest, _context: Context, caller: Caller
    ) -> pb.GetEnvelopeResponse:
        name = convert.index_name(request.index_name)
        return convert.get_response(
            await self._service.get(caller, convert.location(request), name)
        )

    async def BatchGetEnvelopes(
        self, request: pb.BatchGetEnvelopesRequest, _context: Context, caller: Caller
    ) -> pb.BatchGetEnvelopesResponse:
        reader = EnvelopeReader(self._service, caller, convert.location(request))
        return await reader.batch(convert.index_names(request))

    async def BatchPushEnvelopes(
        self, request: pb.BatchPushEnvelopesRequest, context: Context, caller: Caller
    ) -> pb.BatchPushEnvelopesResponse:
        pushed = await self._service.push_many(
            caller,
            convert.location(request),
            convert.pushes(request),
            attempt=_attempt(request, context, caller),
        )
        log_causes(pushed.results)
        return convert.pushed_response(request, pushed)

    async def DeleteEnvelope(
        self, request: pb.DeleteEnvelopeRequest, context: Context, caller: Caller
    ) -> pb.DeleteEnvelopeResponse:
        existed = await self._service.delete(
            caller,
            convert.location(request),
            convert.index_name(request.index_name),
            if_etag=convert.if_etag(request),
            attempt=_attempt(request, context, caller),
        )
        return pb.DeleteEnvelopeResponse(existed=existed)

    async def ListEnvelopes(
        self, request: pb.ListEnvelopesRequest, _context: Context, caller: Caller
    ) -> pb.ListEnvelopesResponse:
        page = await self._service.list(
            caller,
            convert.location(request),
            request.prefix,
            convert.page_size(request),
            request.page_token,
        )
        if request.view != pb.ENVELOPE_VIEW_FULL:
            listed = [pb.ListedEnvelope(index_name=name.value) for name in page.names]
            return pb.ListEnvelopesResponse(envelopes=listed, next_page_token=page.next_token)
        reader = EnvelopeReader(self._service, caller, convert.location(request))
        return await reader.page(page, request)

    async def WatchEnvelopes(
        self, request: pb.WatchEnvelopesRequest, context: Context, caller: Caller
    ) -> None:
        async with self._service.watch(caller, convert.location(request), request.prefix) as watch:
            await _send(context, convert.watch_started(watch.store, _HEARTBEAT_SECONDS))
            while (event := await watch.next(_HEARTBEAT_SECONDS)) is not None:
                await _send(context, convert.event(event))
        raise ShuttingDownError


async def _send(context: Context, message: Message) -> None:
    """Raises `WatchFellBehindError` if the caller doesn't take it: what gRPC keeps for him is full,
    and waits.
    """
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await context.write(message)
    except TimeoutError:
        raise WatchFellBehindError from None
    # pygrpc-native's write gives way to nobody, not even to the caller's own cancel.
    await asyncio.sleep(0)


def _attempt(request: convert.Write, context: Context, caller: Caller) -> WriteAttempt | None:
    metadata = context.invocation_metadata() or ()
    is_retry = any(key == _PREVIOUS_ATTEMPTS for key, _ in metadata)
    return convert.attempt(request, caller, is_retry=is_retry)
