"""Serves EnvelopeService: converts the request, calls the use case, converts the result."""

import asyncio
import logging
from typing import Final

from google.protobuf.message import Message

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.access.repetition import Repetition
from kekd_server.access.request_context import RequestContext
from kekd_server.model.errors import ShuttingDownError, WatchFellBehindError
from kekd_server.rpc import convert
from kekd_server.rpc.envelope_reader import EnvelopeReader
from kekd_server.rpc.errors import Context, log_causes
from kekd_server.rpc.ready_answers import ReadyAnswers
from kekd_server.rpc.unparsed_get import UnparsedGet
from kekd_server.service import EnvelopeService
from kekd_server.storage.writes.attempt import WriteAttempt

_PREVIOUS_ATTEMPTS: Final = "grpc-previous-rpc-attempts"
"""gRPC itself sends this with a call that it retries
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md)."""

_HEARTBEAT_INTERVAL: Final = 2.0
_WRITE_TIMEOUT: Final = 10.0
"""Seconds that a subscriber has to read an event."""

_log = logging.getLogger(__name__)


class EnvelopeServicer:
    def __init__(self, service: EnvelopeService, ready_answers: ReadyAnswers | None) -> None:
        self._service = service
        self._ready_answers = ready_answers

    async def CreateEnvelope(
        self, message: pb.CreateEnvelopeRequest, context: Context, request: RequestContext
    ) -> pb.CreateEnvelopeResponse:
        etag = await self._service.create(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
            convert.parse_envelope(message),
            attempt=_attempt(message, context, request),
        )
        return pb.CreateEnvelopeResponse(etag=etag)

    async def PushEnvelope(
        self, message: pb.PushEnvelopeRequest, context: Context, request: RequestContext
    ) -> pb.PushEnvelopeResponse:
        etag = await self._service.push(
            request,
            convert.parse_location(message),
            convert.parse_push(message),
            attempt=_attempt(message, context, request),
        )
        return pb.PushEnvelopeResponse(etag=etag)

    async def GetEnvelope(
        self, message: UnparsedGet, _context: Context, request: RequestContext
    ) -> bytes:
        """Returns the serialized response, which may be ready."""
        ready = self._ready_answers
        if ready and (answer := _repeat(ready, message.sent, request)) is not None:
            return answer
        parsed = message.parse()
        name, location = (
            convert.parse_index_name(parsed.index_name),
            convert.parse_location(parsed),
        )
        if parsed.HasField("version_id"):
            version_id = convert.parse_version_id(parsed)
            version = await self._service.get_version(request, location, name, version_id)
            return convert.make_get_response(version).SerializeToString()
        stored, repeat_grant = await self._service.get(request, location, name)
        answer = convert.make_get_response(stored).SerializeToString()
        if ready and repeat_grant:
            ready.keep(message.sent, request, repeat_grant, answer)
        return answer

    async def BatchGetEnvelopes(
        self, message: pb.BatchGetEnvelopesRequest, _context: Context, request: RequestContext
    ) -> bytes:
        """Returns the serialized response, whose entries may be ready."""
        reader = self._reader(request, message)
        return await reader.batch(convert.parse_index_names(message))

    async def BatchPushEnvelopes(
        self, message: pb.BatchPushEnvelopesRequest, context: Context, request: RequestContext
    ) -> pb.BatchPushEnvelopesResponse:
        pushed = await self._service.push_many(
            request,
            convert.parse_location(message),
            convert.parse_pushes(message),
            attempt=_attempt(message, context, request),
        )
        log_causes(pushed.results)
        return convert.make_batch_push_response(message, pushed)

    async def DeleteEnvelope(
        self, message: pb.DeleteEnvelopeRequest, context: Context, request: RequestContext
    ) -> pb.DeleteEnvelopeResponse:
        existed = await self._service.delete(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
            if_etag=convert.parse_if_etag(message),
            attempt=_attempt(message, context, request),
        )
        return pb.DeleteEnvelopeResponse(existed=existed)

    async def ListEnvelopes(
        self, message: pb.ListEnvelopesRequest, _context: Context, request: RequestContext
    ) -> pb.ListEnvelopesResponse | bytes:
        """Returns the serialized response if it has envelopes, which may be ready."""
        page = await self._service.list(
            request,
            convert.parse_location(message),
            message.prefix,
            convert.parse_page_size(message),
            message.page_token,
            show_deleted=message.show_deleted,
        )
        if message.view != pb.ENVELOPE_VIEW_FULL:
            listed = [pb.ListedEnvelope(index_name=name.value) for name in page.names]
            return pb.ListEnvelopesResponse(envelopes=listed, next_page_token=page.next_token)
        return await self._reader(request, message).page(page, message)

    def _reader(
        self,
        request: RequestContext,
        message: pb.BatchGetEnvelopesRequest | pb.ListEnvelopesRequest,
    ) -> EnvelopeReader:
        entries = self._ready_answers.entries if self._ready_answers else None
        return EnvelopeReader(self._service, request, convert.parse_location(message), entries)

    async def ListEnvelopeVersions(
        self, message: pb.ListEnvelopeVersionsRequest, _context: Context, request: RequestContext
    ) -> pb.ListEnvelopeVersionsResponse:
        listing = await self._service.list_versions(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
            convert.parse_page_size(message),
            message.page_token,
            with_envelopes=message.view == pb.ENVELOPE_VIEW_FULL,
        )
        log_causes(listing.envelopes.values())
        return convert.make_versions_response(listing)

    async def RestoreEnvelope(
        self, message: pb.RestoreEnvelopeRequest, context: Context, request: RequestContext
    ) -> pb.RestoreEnvelopeResponse:
        etag = await self._service.restore(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
            convert.parse_version_id(message),
            if_etag=convert.parse_if_etag(message),
            attempt=_attempt(message, context, request),
        )
        return pb.RestoreEnvelopeResponse(etag=etag)

    async def UndeleteEnvelope(
        self, message: pb.UndeleteEnvelopeRequest, context: Context, request: RequestContext
    ) -> pb.UndeleteEnvelopeResponse:
        etag = await self._service.undelete(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
            attempt=_attempt(message, context, request),
        )
        return pb.UndeleteEnvelopeResponse(etag=etag)

    async def HoldEnvelope(
        self, message: pb.HoldEnvelopeRequest, _context: Context, request: RequestContext
    ) -> pb.HoldEnvelopeResponse:
        await self._service.hold(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
            convert.parse_reason(message),
        )
        return pb.HoldEnvelopeResponse()

    async def ReleaseEnvelope(
        self, message: pb.ReleaseEnvelopeRequest, _context: Context, request: RequestContext
    ) -> pb.ReleaseEnvelopeResponse:
        existed = await self._service.release(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
        )
        return pb.ReleaseEnvelopeResponse(existed=existed)

    async def DestroyEnvelope(
        self, message: pb.DestroyEnvelopeRequest, context: Context, request: RequestContext
    ) -> pb.DestroyEnvelopeResponse:
        destruction = await self._service.destroy(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
            convert.parse_reason(message),
            if_etag=convert.parse_if_etag(message),
            attempt=_attempt(message, context, request),
        )
        return convert.make_destroy_response(destruction)

    async def ImportEnvelopeVersions(
        self, message: pb.ImportEnvelopeVersionsRequest, _context: Context, request: RequestContext
    ) -> pb.ImportEnvelopeVersionsResponse:
        added = await self._service.import_versions(
            request,
            convert.parse_location(message),
            convert.parse_index_name(message.index_name),
            convert.parse_imported(message),
        )
        return pb.ImportEnvelopeVersionsResponse(added=added)

    async def WatchEnvelopes(
        self, message: pb.WatchEnvelopesRequest, context: Context, request: RequestContext
    ) -> None:
        async with self._service.watch(
            request, convert.parse_location(message), message.prefix
        ) as watch:
            await _send(context, convert.make_watch_started(watch.store_name, _HEARTBEAT_INTERVAL))
            while (event := await watch.next(_HEARTBEAT_INTERVAL)) is not None:
                await _send(context, convert.serialize_event(event))
        raise ShuttingDownError


def _repeat(ready: ReadyAnswers, sent: bytes, request: RequestContext) -> bytes | None:
    """Raises the failure of a repetition that is recorded already."""
    principal = request.principal
    repetition = Repetition(principal, request.peer, request.request_id)
    try:
        found = ready.find(sent, principal.identity)
        if not (found and found.grant.repeat(repetition)):
            return None
    except Exception:
        if repetition.is_recorded:
            raise
        _log.exception("internal error")
        return None
    request.on_store_selected(found.grant.store_name)
    return found.answer


async def _send(context: Context, message: Message | bytes) -> None:
    """Raises `WatchFellBehindError` if the caller doesn't read: then gRPC's buffer is full, and the
    write blocks.
    """
    try:
        async with asyncio.timeout(_WRITE_TIMEOUT):
            await context.write(message)
    except TimeoutError:
        raise WatchFellBehindError from None
    # pygrpc-native's write doesn't yield to other tasks, not even for its own cancellation.
    await asyncio.sleep(0)


def _attempt(
    message: convert.Write, context: Context, request: RequestContext
) -> WriteAttempt | None:
    metadata = context.invocation_metadata() or ()
    is_retry = any(key == _PREVIOUS_ATTEMPTS for key, _ in metadata)
    return convert.parse_attempt(message, request, is_retry=is_retry)
